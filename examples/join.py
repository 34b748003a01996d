"""Reduce-side join of two csv files: every order with the name of its customer.

    gristmill run examples/join.py customers.csv orders.csv -o joined --output-format csv

customers.csv has the columns customer_id,name and orders.csv order_id,customer_id,amount. The mapper tells the two
apart by their columns. Rows without a partner are left out, and counted.
"""

from gristmill import MapReduce

CUSTOMER, ORDER = 0, 1


class Join(MapReduce):
    """Orders with the names of their customers, joined by customer_id."""

    input_format = "csv"

    def mapper(self, _, row):
        if "order_id" in row:
            yield row["customer_id"], (ORDER, row["order_id"], row["amount"])
        else:
            yield row["customer_id"], (CUSTOMER, row["name"], "")

    def reducer(self, customer_id, rows):
        # One customer's rows come together, in the order of the files: keep one side, stream the other if it can be.
        names, waiting = [], []
        for kind, first, amount in rows:
            if kind == CUSTOMER:
                names.append(first)
            else:
                waiting.append((first, amount))
        if not names:
            self.counter("join", "orders without customer", len(waiting))
        if not waiting:
            self.counter("join", "customers without order", len(names))
        for name in names:
            for order_id, amount in waiting:
                yield None, {"order_id": order_id, "customer_id": customer_id, "name": name, "amount": amount}


if __name__ == "__main__":
    Join.main()
