"""Run by Tryton's own Python: a company with its accounts, and the integration user, whose key it prints.

What a person would do with Tryton's client after its installation, by way of proteus, which Tryton's tests use.
"""

import sys
from typing import Any

from proteus import Model, config

DATABASE, CONFIG, LOGIN = sys.argv[1:]
# What an integration user needs, by the names the database has them under.
GROUPS = [
    "Sales", "Purchase", "Stock", "Party Administration", "Product Administration", "Account Product Administration",
]  # fmt: skip
proteus = config.set_trytond(DATABASE, config_file=CONFIG)

# Tryton's modules can be imported once its database is known.
from trytond.modules.account.tests.tools import create_chart, create_fiscalyear, get_accounts  # noqa: E402
from trytond.modules.account_invoice.tests.tools import set_fiscalyear_invoice_sequences  # noqa: E402
from trytond.modules.company.tests.tools import create_company, get_company  # noqa: E402


def make_company() -> Any:
    """A company that invoices this year and sells to India, and an administrator who works for it."""
    create_company()
    company = get_company()
    country = Model.get("country.country")
    country(name="India", code="IN", code3="IND", code_numeric="356").save()
    (admin,) = Model.get("res.user").find([("login", "=", "admin")])
    admin.companies.append(Model.get("company.company")(company.id))
    admin.company = company
    admin.save()
    proteus._context = Model.get("res.user").get_preferences(True, {})
    create_chart(company)
    set_fiscalyear_invoice_sequences(create_fiscalyear(company)).click("create_period")
    return company


def make_category(company: Any) -> None:
    """What the products that a shop sells are booked under."""
    accounts = get_accounts(company)
    category = Model.get("product.category")(name="Goods", accounting=True)
    category.account_revenue = accounts["revenue"]
    category.account_expense = accounts["expense"]
    category.save()


def make_user(company: Any) -> Any:
    user = Model.get("res.user")(name="Litekart Hub", login=LOGIN)
    user.groups.extend(Model.get("res.group").find([("name", "in", GROUPS)]))
    assert len(user.groups) == len(GROUPS)
    user.companies.append(Model.get("company.company")(company.id))
    user.company = company
    user.save()
    return user


def main() -> None:
    company = make_company()
    make_category(company)
    application = Model.get("res.user.application")(user=make_user(company), application="rest")
    application.save()
    print(application.key)


main()
