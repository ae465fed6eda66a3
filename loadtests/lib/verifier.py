"""Holds the engine's stock against a ledger, by rules of its own: conservation, nothing sold twice, nothing withheld.

Usage: verifier.py LEDGER URL          prints {"skus": …, "violations": […]}

It shares no code with the engine, with k6's scripts or with `doorbuster trial judge`, and asks the engine for nothing but
each SKU's figures, so it can be run again whenever the ledger is there, after a crash too.

Per SKU of the ledger:
  conservation   received = opening; received = on_hand + sold; available = on_hand - reserved; nothing negative
  oversold       sold + reserved is at most the opening stock; so is what was acknowledged as sold
  acknowledged   what was acknowledged as sold is at most what is recorded as sold, and that is at most what anybody may
                 have been granted: acknowledged, or never answered
  undersold      nobody was refused units that could not have been with somebody else: of a SKU of 10 units of which 3 were
                 ever given out, 8 may be refused and 7 may not
"""

import collections
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request


def stock(url, sku):
    request = urllib.request.Request(
        f"{url}/v1/admin/skus/{urllib.parse.quote(sku)}/stock",
        headers={"Authorization": f"Bearer {os.environ.get('DOORBUSTER_ADMIN_KEY', '')}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        return None


def units(items):
    total = collections.Counter()
    for item in items:
        total[item["sku"]] += item["quantity"]
    return total


class Book:
    """A ledger folded into units by SKU."""

    def __init__(self):
        self.opening = {}
        self.sold = collections.Counter()  # acknowledged as sold
        self.sold_perhaps = collections.Counter()  # asked to be sold, and never answered, or answered "pending"
        self.away = collections.Counter()  # may have been with somebody at some time
        self.refused = []  # (key, SKU, units) of refusals for want of stock
        self._held = {}
        self._carts = {}

    def add(self, entry):
        request, verdict = entry["request"], entry["verdict"]
        path, kind = request["path"].strip("/").split("/"), verdict["is"]
        body = json.loads(request["body"]) if request["body"] else {}
        if kind == "sku":
            self.opening[verdict["sku"]] = verdict["units"]
        elif path[-1] == "reservations":
            self._reservation(request["key"], body["items"], verdict)
        elif path[-1] == "commit":
            items = self._held.get(path[-2], collections.Counter())
            if kind == "committed":
                self.sold += items
            elif kind == "unknown":
                self.sold_perhaps += items
        elif path[-1] == "carts" and kind == "carted":
            self._carts[verdict["id"]] = units(body.get("items") or [])
        elif path[-1] == "checkout":
            items = self._carts.get(path[-2], collections.Counter())
            self.away += items
            if kind == "ordered":
                self.sold += items
            elif kind in ("pending", "unknown"):
                self.sold_perhaps += items

    def _reservation(self, key, items, verdict):
        kind = verdict["is"]
        if kind == "reserved":
            granted = units(verdict["items"])
            self._held[verdict["id"]] = granted
            self.away += granted
        elif kind == "unknown" or len(items) > 1:
            # Of several SKUs, those that were there were held for a moment while the others were asked for.
            self.away += units(items)
            if kind == "unknown":
                # Nobody heard its id, so nobody can have sold it; the judge may settle it and sell nothing either.
                return
        elif verdict.get("code") == "insufficient_stock":
            self.refused.append((key, items[0]["sku"], items[0]["quantity"]))


def violations_of(book, now_of):
    for sku, opening in book.opening.items():
        now = now_of(sku)
        if now is None:
            yield f"law 3: {sku} is lost"
            continue
        if now["received"] != opening:
            yield f"law 1: {sku} opened with {opening} and received {now['received']}"
        if now["received"] != now["on_hand"] + now["sold"] or now["available"] != now["on_hand"] - now["reserved"]:
            yield f"law 1: the figures of {sku} do not add up: {now}"
        for figure in ("on_hand", "reserved", "available", "sold"):
            if now[figure] < 0:
                yield f"law 1: {figure} of {sku} is {now[figure]}"
        if now["sold"] + now["reserved"] > opening:
            yield f"oversold: {sku} had {opening}, sold {now['sold']} and holds {now['reserved']}"
        sold, perhaps = book.sold[sku], book.sold_perhaps[sku]
        if sold > opening:
            yield f"oversold: {sold} units of {sku} were acknowledged as sold, of {opening}"
        if not sold <= now["sold"] <= sold + perhaps:
            yield f"{sku}: {sold} acknowledged as sold, {perhaps} perhaps, and {now['sold']} recorded"
    for key, sku, wanted in book.refused:
        left = book.opening.get(sku, 0) - book.away[sku]
        if wanted <= left:
            yield f"undersold: {key} was refused {wanted} of {sku}, of which {left} were never with anybody"


def main():
    ledger, url = sys.argv[1:3]
    book = Book()
    with open(ledger, encoding="utf-8") as file:
        for line in file:
            book.add(json.loads(line))
    found = list(violations_of(book, lambda sku: stock(url, sku)))
    print(json.dumps({"skus": len(book.opening), "refusals": len(book.refused), "violations": found}))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
