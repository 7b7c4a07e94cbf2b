"""The vocabulary of the double's data: people, goods, places. Names hold more than ASCII on purpose."""

from typing import NamedTuple

FIRST_NAMES = ("Asha", "Zoë", "李", "Sinéad", "Ravi", "Anaïs", "Jürgen", "Priya", "Søren", "Marta", "Tomás", "Ama")
LAST_NAMES = ("Rao", "Ångström", "雷", "O'Connor-Müller", "Patel", "Lefèvre", "Groß", "Iyer", "Holm", "Nowak", "Díaz")

CATEGORIES = ("Electronics", "Kitchen", "Books", "Clothing", "Garden", "Toys", "Stationery", "Food & Drink")
BRANDS = ("Northwind", "Käthe & Co", "Indus Works", "Plain Goods", "Aurora", "Minami")


class Goods(NamedTuple):
    """A kind of product: its name, category, usual price in major units and the values of its option, if it has one."""

    name: str
    category: str
    price: int
    option: str = ""
    values: tuple[str, ...] = ()


GOODS = (
    Goods("Desk lamp", "Electronics", 39),
    Goods("Headphones", "Electronics", 89, "colour", ("black", "white")),
    Goods("USB charger", "Electronics", 19),
    Goods("Copper kettle", "Kitchen", 59),
    Goods("Café set", "Kitchen", 34, "size", ("two cups", "four cups")),
    Goods("Chef's knife", "Kitchen", 74),
    Goods("Atlas", "Books", 29),
    Goods("Cookery book", "Books", 24),
    Goods("Wool scarf “Skåne”", "Clothing", 34, "colour", ("grey", "moss", "röd")),
    Goods("T-shirt", "Clothing", 15, "size", ("S", "M", "L", "XL")),
    Goods("Watering can", "Garden", 22),
    Goods("Secateurs", "Garden", 27),
    Goods("Wooden train", "Toys", 45),
    Goods("Puzzle, 500 pieces", "Toys", 18),
    Goods("Fountain pen", "Stationery", 31, "nib", ("F", "M")),
    Goods("Notebook", "Stationery", 9, "ruling", ("plain", "lined")),
    Goods("Café crème, 250 g", "Food & Drink", 12),
    Goods("आम का अचार", "Food & Drink", 5),
)
STYLES = ("", "small", "large", "classic", "No. 2", "travel", "“Été”", "plus")

CITIES = (
    ("Pune", "Maharashtra", "411001", "IN"),
    ("Göteborg", "Västra Götaland", "411 05", "SE"),
    ("München", "Bayern", "80331", "DE"),
    ("Cork", "Munster", "T12 X70A", "IE"),
)
STREETS = ("Hill Road", "Östra Hamngatan", "Sendlinger Straße", "Patrick Street", "MG Road")
PAGES = ("About us", "Shipping", "Returns", "Imprint")
BLOGS = ("How a kettle is made", "Five teas for winter", "Our new shop", "Wool and how to wash it", "Café à la maison")
COUPONS = ("WELCOME10", "SUMMER", "FREESHIP", "VIP20", "BOGO", "LASTCHANCE")

# The vendor's default set, in the order in which an order goes through it. A store may have more.
ORDER_STATUSES = ("pending", "confirmed", "processing", "shipped", "delivered")
