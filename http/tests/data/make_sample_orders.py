#!/usr/bin/env python3
"""Writes sample_orders.csv: an invented shop's week in the columns of the UCI Online Retail file.

Every case the replay knows occurs: returns that find their sale and returns that do not (guests, strangers, more than
was bought), a return at another price, one SKU at two prices on one invoice, free items, fees, vouchers, stock notes up and
down, SKUs differing only by case, a code that is no SKU, quotes, empty fields, a Latin-1 byte, both ways of writing
a date, and lines that are counted but never booked. The seed is fixed: running it again changes nothing.

    python3 http/tests/data/make_sample_orders.py > http/tests/data/sample_orders.csv
"""

import datetime
import random
import sys

random.seed(20101201)
now = datetime.datetime(2010, 12, 1, 8, 0)
spreadsheet_dates = False
out = sys.stdout.buffer


def write(invoice, code, name, quantity, price, customer):
    when = now.strftime("%-m/%-d/%Y %-H:%M") if spreadsheet_dates else now.strftime("%Y-%m-%dT%H:%M:00")
    if any(letter in name for letter in ',"'):
        name = '"' + name.replace('"', '""') + '"'
    fields = [invoice, code, name, str(quantity), when, price, customer, "Freedonia"]
    # One column is Latin-1 on purpose; all else is ASCII.
    out.write(",".join(fields).encode("latin-1") + b"\n")


out.write(b"InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n")
goods = [
    ("10001A", "TEAPOT, BLUE", "4.95"),
    ("10001a", "TEAPOT, BLUE, SECOND CHOICE", "2.95"),
    ("10002", 'MUG "ANCHOR"', "1.25"),
    ("10003", "NAPKINS PACK OF 20", "0.85"),
    ("10004 B", "TIN OF TOFFEE", "3.20"),
    ("10005/L", "LAMP, LARGE", "24.50"),
    ("10006", "CAF\xc9 SIGN", "7.95"),
    ("10007", "BIRD FEEDER", "5.00"),
    ("10008", "CANDLE", "0.42"),
    ("10009", "", "2.10"),
]
number = 500000
for day in range(5):
    spreadsheet_dates = day >= 3
    for _ in range(8):
        number += 1
        customer = random.choice(["9001", "9002", "9003", "9004", ""])
        for code, name, price in random.sample(goods, random.randint(2, 5)):
            write(str(number), code, name, random.choice([1, 2, 3, 6, 12]), price, customer)
        if random.random() < 0.4:
            write(str(number), "POST", "POSTAGE", 1, "4.50", customer)
        now += datetime.timedelta(minutes=random.randint(5, 70))
    now += datetime.timedelta(hours=14)

spreadsheet_dates = False


def invoice(*lines, customer="", prefix=""):
    global number, now
    number += 1
    now += datetime.timedelta(minutes=7)
    for code, name, quantity, price in lines:
        write(prefix + str(number), code, name, quantity, price, customer)


invoice(("10007", "BIRD FEEDER", 4, "5.00"), ("10007", "BIRD FEEDER", 2, "4.25"), customer="9005")
invoice(("10007", "BIRD FEEDER", -1, "4.25"), ("10007", "BIRD FEEDER", -3, "5.00"), customer="9005", prefix="C")
invoice(("10007", "BIRD FEEDER", -9, "5.00"), customer="9005", prefix="C")
invoice(("10005/L", "LAMP, LARGE", 1, "24.50"), ("POST", "POSTAGE", 1, "9.00"), customer="9006")
invoice(("10005/L", "LAMP, LARGE", -1, "20.00"), ("POST", "POSTAGE", -1, "9.00"), customer="9006", prefix="C")
invoice(("10001A", "TEAPOT, BLUE", -1, "4.95"), prefix="C")
invoice(("D", "Discount", -1, "12.34"), customer="9002", prefix="C")
invoice(("BANK CHARGES", "Bank Charges", -1, "3.50"), prefix="C")
invoice(("10002", 'MUG "ANCHOR"', 3, "1.25"), ("10008", "CANDLE", 1, "0"), customer="9003")
invoice(("10003", "NAPKINS PACK OF 20", 2, "0.85"), ("10009", "", 1, "0.0"))
invoice(("gift_0001_20", "Gift voucher 20.00", 1, "17.02"), ("m", "Manual", 1, "2.55"))
invoice(("10008", "CANDLE", 2, "0.415"), ("10008", "CANDLE", 1, "0.42"), customer="9004")
invoice(("10008", "", 24, "0"))
invoice(("10003", "found", 5, "0"))
invoice(("10003", "damages", -4, "0"))
invoice(("10011", "", -2, "0"))
invoice(("10006", "CAF\xc9 SIGN", 0, "7.95"), ("10006", "CAF\xc9 SIGN", 1, "7.95"), customer="9001")
invoice(("B", "Adjust bad debt", 1, "-11.06"))
invoice(("10002", 'MUG "ANCHOR"', "many", "1.25"), ("10002", 'MUG "ANCHOR"', 1, "1.25"), customer="9001")
invoice(("", "NO CODE", 1, "1.00"), ("10004 B", "TIN OF TOFFEE", 1, "3.20"), customer="9001")
