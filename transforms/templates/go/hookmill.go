// Package hookmill has what a transform answers with, and the event that it gets. Plain Go: works on your machine as in
// a module.
package hookmill

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Event is a CloudEvent. Empty texts are attributes that are not there; so is nil Data.
type Event struct {
	ID              string
	Source          string
	Type            string
	Subject         string
	Time            string
	DataContentType string
	DataSchema      string
	// Extensions are string, int32 or bool.
	Extensions map[string]any
	Data       []byte
}

// Rejected is an error for an event that can never work: it becomes a dead letter. The text must not quote the event.
// Any other error means that the event is tried again.
type Rejected string

func (text Rejected) Error() string { return string(text) }

// JSON reads the data. The error is Rejected, and never quotes the data.
func (event Event) JSON(into any) error {
	if event.Data == nil {
		return Rejected("the event has no data")
	}
	kind, _, _ := strings.Cut(event.DataContentType, ";")
	_, subtype, _ := strings.Cut(strings.ToLower(strings.TrimSpace(kind)), "/")
	if event.DataContentType != "" && subtype != "json" && !strings.HasSuffix(subtype, "+json") {
		return Rejected(fmt.Sprintf("the data is %s, not JSON", event.DataContentType))
	}
	if !utf8.Valid(event.Data) || json.Unmarshal(event.Data, into) != nil {
		return Rejected("the data is not valid JSON, or not of the shape that is expected")
	}
	return nil
}

// WithJSON is the event with this value as its data.
func (event Event) WithJSON(value any) (Event, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return event, err
	}
	event.Data = data
	if event.DataContentType == "" {
		event.DataContentType = "application/json"
	}
	return event, nil
}

// WithExtension is the event with one extension more, or another value for it.
func (event Event) WithExtension(name string, value any) Event {
	all := map[string]any{name: value}
	for known, old := range event.Extensions {
		if known != name {
			all[known] = old
		}
	}
	event.Extensions = all
	return event
}

// Verdict is one of Keep, Drop, Replace and Split.
type Verdict interface{ verdict() }

// Keep: the event goes on as it came, byte for byte. Answer this when nothing changed: it is the cheapest.
type Keep struct{}

// Drop: the event ends here, on purpose. The text must not quote it.
type Drop string

// Replace: the event goes on like this, its delivery with these HTTP headers.
type Replace struct {
	Event   Event
	Headers map[string]string
}

// Split: each goes on for itself; none at all filters the event.
type Split []Replace

func (Keep) verdict()    {}
func (Drop) verdict()    {}
func (Replace) verdict() {}
func (Split) verdict()   {}

// Apply decides about one event.
type Apply func(Event) (Verdict, error)

// Log writes a line into the engine's log: "debug", "info", "warn" or "error". It must not quote the event.
var Log = func(level, text string) {}

// Now is the time. In a module time.Now() is 1970.
var Now = time.Now
