package transform

import (
	"testing"

	"wit_component/hookmill"
)

func answer(t *testing.T, data string) (hookmill.Verdict, error) {
	t.Helper()
	apply, err := Configure([]byte(`{"region": "eu"}`))
	if err != nil {
		t.Fatal(err)
	}
	return apply(hookmill.Event{ID: "1", Source: "/shop", Type: "com.shop.order.created", Data: []byte(data)})
}

func TestOrdersAreStamped(t *testing.T) {
	verdict, err := answer(t, `{"total": 9}`)
	replace, ok := verdict.(hookmill.Replace)
	if err != nil || !ok || replace.Event.Extensions["region"] != "eu" {
		t.Fatalf("%#v, %v", verdict, err)
	}
}

func TestTestOrdersAreDropped(t *testing.T) {
	if verdict, err := answer(t, `{"test": true}`); verdict != hookmill.Drop("a test order") || err != nil {
		t.Fatalf("%#v, %v", verdict, err)
	}
}

func TestWhatIsNoJSONIsRejected(t *testing.T) {
	if _, err := answer(t, "secret"); err == nil || err != hookmill.Rejected(err.Error()) {
		t.Fatalf("%v", err)
	}
}

func TestAnEmptyRegionIsRefused(t *testing.T) {
	if _, err := Configure([]byte(`{}`)); err == nil {
		t.Fatal("no error")
	}
}
