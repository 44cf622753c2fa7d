import unittest

from hookmill import Drop, Event, Rejected, Replace, log
from transform import Transform


def order(data):
    return Event(id="1", source="/shop", type="com.shop.order.created").with_json(data)


class Stamping(unittest.TestCase):
    def test_orders_are_stamped(self):
        answer = Transform({"region": "eu"}).apply(order({"total": 9}))
        self.assertIsInstance(answer, Replace)
        self.assertEqual(answer.event.extensions, {"region": "eu"})
        self.assertIn(("debug", "stamped with eu"), log.lines)

    def test_test_orders_are_dropped(self):
        self.assertEqual(Transform({"region": "eu"}).apply(order({"test": True})), Drop("a test order"))

    def test_what_is_no_json_is_rejected_without_being_quoted(self):
        event = Event(id="1", source="/shop", type="t", data=b"secret")
        with self.assertRaisesRegex(Rejected, "^the data is not valid JSON$"):
            Transform({"region": "eu"}).apply(event)

    def test_an_empty_region_is_refused(self):
        with self.assertRaisesRegex(ValueError, "region is empty"):
            Transform({"region": ""})


if __name__ == "__main__":
    unittest.main()
