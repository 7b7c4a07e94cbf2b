"""JSON by the classes of RFC 8259: what every reader must take, what none may, and what is left to each.

Values stand where the hub puts no meaning into them (`data.x` of an event); documents are whole bodies.
"""

MUST_TAKE: tuple[bytes, ...] = (
    # Literals, and numbers in each form of the grammar.
    b"null", b"true", b"false", b"0", b"-0", b"1", b"-1", b"10", b"1.5", b"-1.5", b"0.0", b"-0.0", b"1e1", b"1E1",
    b"1e+1", b"1e-1", b"1E+01", b"0e1", b"0E-0", b"1.0e10", b"123.456e-7", b"1e308", b"9007199254740993",
    b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"1" * 300, b"0." + b"1" * 5_000,
    b"1e-400", b"0e99999999999", b"1e-99999999999", b"1." + b"0" * 400,
    # Strings: each escape, each kind of character that needs none.
    rb'""', rb'" "', rb'"\"\\\/\b\f\n\r\t"', rb'"\u0041\u00e9\u00E9"', rb'"\u0000"', rb'"\u001f\u007f\u0080"',
    rb'"\ud834\udd1e"', rb'"\uD834\uDD1E"', rb'"\ufffe\uffff"', rb'"\u2028\u2029"', rb'"\\u0000"', rb'"\/\/"',
    b'"\x7f"', '"é"'.encode(), '"\u2028\u2029\x85"'.encode(), '"\ufeff"'.encode(), '"\U0010ffff\ufdd0"'.encode(),
    '"मूल 東京 שלום"'.encode(), '"👩‍👩‍👧"'.encode(), '"\u202e\u200b"'.encode(), b'"// no comment /* */ #"', b"\"'\"",
    # Arrays and objects, also empty, also with space wherever it may stand.
    b"[]", b"[null]", b"[1,2,3]", b"[[[]]]", b"[{}]", b'[1,"1",1.0,true]', b" [ 1 , 2 ] ", b"[\t\n\r ]",
    b"{}", b'{"a":1}', b'{"":0}', b'{" ":{"":{}}}', b'{ "a" : 1 , "b" : [ ] }', b'{\r\n"a"\t:\n1}', rb'{"\u0061":1}',
    rb'{"\u0000":1}', rb'{"a\nb":1}', '{"é\u2028":1}'.encode(), b'{"__proto__":{"x":1},"constructor":1}',
    b"[" * 60 + b"]" * 60, b'{"a":' * 60 + b"1" + b"}" * 60, b"[" + b"0," * 5_000 + b"0]",
)  # fmt: skip

MUST_REFUSE: tuple[bytes, ...] = (
    # Numbers that the grammar has not.
    b"01", b"-01", b"00", b"+1", b".5", b"-.5", b"1.", b"1.e1", b"1e", b"1e+", b"1E-", b"1.5e", b"-", b"--1", b"- 1",
    b"0x1F", b"0b1", b"0o7", b"1_000", b"1,000.5.", b"1e1.5", b"1ee1", b"NaN", b"-NaN", b"Infinity", b"-Infinity",
    b"inf",
    "１".encode(), "-\u0661".encode(), b"1 2", b"0.1.2", b"1f", b"1L",
    # Literals in other spellings.
    b"nul", b"nulll", b"True", b"TRUE", b"truefalse", b"undefined", b"None", b"null0", b"tru\x00e",
    # Strings that do not end, hold what must be escaped, or escape what there is not.
    b'"', b'"a', b"'a'", b"a", b"`a`", b'"\\"', b'"\\a"', b'"\\x41"', b'"\\\'"', b'"\\0"', b'"\\u"', b'"\\u12"',
    b'"\\u12G4"',
    b'"\\U0041"', b'"\\u{41}"', b'"\\\n"', b'"a" "b"', b'"a"b', "“a”".encode(),
    *(b'"' + bytes([control]) + b'"' for control in range(0x20)),
    # Bytes that are no UTF-8: lone, cut off, overlong, surrogates, beyond the last character, Latin-1, UTF-16.
    b'"\x80"', b'"\xbf"', b'"\xc3"', b'"\xe2\x82"', b'"\xf0\x9f\x92"', b'"\xc0\x80"', b'"\xc1\xbf"', b'"\xe0\x80\x80"',
    b'"\xf0\x80\x80\x80"', b'"\xed\xa0\x80"', b'"\xed\xb0\x80"', b'"\xf4\x90\x80\x80"', b'"\xf5\x80\x80\x80"',
    b'"\xfe"',
    b'"\xff"', b'"\xe9"', b'"\xfc\x80\x80\x80\x80\x80"', '"é"'.encode("utf-16"), b'{"\xff":1}',
    # Arrays and objects.
    b"[", b"]", b"[1", b"[1,", b"[1,]", b"[,1]", b"[,]", b"[1,,2]", b"[1 2]", b"[1:2]", b"[1}", b"[[]", b"(1)", b"[1]]",
    b"{", b"}", b"{]", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b'{"a":1,}', b'{,"a":1}', b'{"a",1}', b'{"a" 1}',
    b'{"a"::1}',
    b'{"a":1,,"b":2}', b'{"a":1 "b":2}', b"{a:1}", b"{'a':1}", b"{1:1}", b"{null:1}", b'{["a"]:1}', b'{"a"}', b"{:1}",
    # Comments, and what is space elsewhere.
    b"1 // c", b"1 /* c */", b"/* c */ 1", b"# c\n1", b"<!-- c --> 1", b"[1, /* c */ 2]", b"\x0c1", b"\x0b1", b"\x001",
    b"1\x00",
    "\u00a01".encode(), "1\u2028".encode(), "\ufeff1".encode(), "[\u30001]".encode(), b"", b" ",
)  # fmt: skip
# What ends the outer object would make some of these whole: they are tried as documents too.

LEFT_OPEN: dict[bytes, int] = {
    # Halves of surrogate pairs: no text that can be stored, so refused.
    rb'"\ud800"': 400, rb'"\udc00"': 400, rb'"\udc00\ud800"': 400, rb'"\ud800a"': 400, rb'"\ud800\ud800\udc00"': 400,
    rb'{"\udead":1}': 400,
    # Beyond what a double holds: refused; below: the nearest.
    b"1e309": 400, b"-1e309": 400, b"1e99999999999": 400, b"1" * 400: 400, b"1" * 5_000: 400,
    # More than a hundred deep: refused, with the field.
    b"[" * 120 + b"]" * 120: 422, b'{"a":' * 120 + b"1" + b"}" * 120: 422, b"[" * 900 + b"]" * 900: 422,
    b"[" * 10_000 + b"]" * 10_000: 400,
    # Names that come twice: taken, the last counts.
    b'{"a":1,"a":2}': 200, rb'{"a":1,"\u0061":2}': 200, b'{"a":1,"a":1}': 200,
}  # fmt: skip

DOCUMENTS: dict[bytes, int] = {
    # Texts of JSON that are no events.
    b"null": 422, b"true": 422, b"0": 422, b'"order.placed"': 422, b"[]": 422, b"{}": 422, b" \t\r\n{} \n": 422,
    b"[[]]": 422,
    b'{"event":null,"data":null,"timestamp":null}': 422, b'{"event":[],"data":[],"timestamp":[]}': 422,
    # None.
    b"": 400, b" ": 400, b"\x00": 400, b"\xff": 400, b"{}{}": 400, b"{} x": 400, b"{}\x00": 400, b"{}]": 400,
    b"[1}": 400,
    b"\xef\xbb\xbf{}": 400, b"\xff\xfe{\x00}\x00": 400, b"\x00{\x00}": 400, b"{}\x0c": 400, b"<event/>": 400,
    b"event=order.placed": 400, b"--x\r\n\r\n{}\r\n--x--": 400, b"\x80\x03}q\x00.": 400, b"[" * 20_000: 400,
    b"{" * 20_000: 400, b'{"a":' * 20_000: 400, b"[" * 20_000 + b"]" * 20_000: 400,
    # More arrays and objects than are read, whether they end or not.
    b"[" * 100_000: 422, b"{" * 100_000: 422, b'{"a":' * 100_000: 422, b"[" * 100_000 + b"]" * 100_000: 422,
}  # fmt: skip
