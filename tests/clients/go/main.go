// Publishes each event of tests/data/foreign-events.json with the CloudEvents SDK's protocols for NATS and JetStream, each
// structured and binary. Prints how many were sent.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	core "github.com/cloudevents/sdk-go/protocol/nats/v2"
	jetstream "github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"
)

type kind struct {
	Kind            string          `json:"kind"`
	DataContentType string          `json:"datacontenttype"`
	JSON            json.RawMessage `json:"json"`
	Text            *string         `json:"text"`
	Base64          *string         `json:"base64"`
}

var moment = time.Date(2026, 11, 24, 3, 0, 0, 250_000_000, time.UTC)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func event(client, mode string, kind kind) cloudevents.Event {
	event := cloudevents.NewEvent()
	event.SetID(fmt.Sprintf("%s-%s-%s", client, mode, kind.Kind))
	event.SetSource("/shop/foreign")
	event.SetType("com.shop.order.created")
	event.SetSubject("Straße 1, 100 %")
	event.SetTime(moment)
	event.SetDataSchema("https://example.com/schema")
	event.SetExtension("region", "eu")
	event.SetExtension("count", int32(5))
	event.SetExtension("urgent", true)
	if client == "gostream" && mode == "binary" {
		// As text: here the protocol prints URIs, timestamps and bytes as Go prints its values.
		event.SetExtension("link", "https://example.com/a?b=c")
		event.SetExtension("seen", types.FormatTime(moment))
		event.SetExtension("blob", "AAEC")
	} else {
		event.SetExtension("link", types.ParseURI("https://example.com/a?b=c"))
		event.SetExtension("seen", types.Timestamp{Time: moment})
		event.SetExtension("blob", []byte{0, 1, 2})
	}
	switch {
	case kind.JSON != nil:
		must(event.SetData(kind.DataContentType, kind.JSON))
	case kind.Text != nil:
		must(event.SetData(kind.DataContentType, *kind.Text))
	case kind.Base64 != nil:
		bytes, err := base64.StdEncoding.DecodeString(*kind.Base64)
		must(err)
		must(event.SetData(kind.DataContentType, bytes))
	}
	return event
}

func main() {
	url, stream, subject, path := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	text, err := os.ReadFile(path)
	must(err)
	var kinds []kind
	must(json.Unmarshal(text, &kinds))

	coreSender, err := core.NewSender(url, subject, core.NatsOptions())
	must(err)
	streamSender, err := jetstream.NewSender(url, stream, subject, jetstream.NatsOptions(), []nats.JSOpt{})
	must(err)
	coreClient, err := cloudevents.NewClient(coreSender)
	must(err)
	streamClient, err := cloudevents.NewClient(streamSender)
	must(err)

	sent := 0
	for name, client := range map[string]cloudevents.Client{"gocore": coreClient, "gostream": streamClient} {
		for _, kind := range kinds {
			for mode, force := range map[string]func(context.Context) context.Context{
				"structured": binding.WithForceStructured,
				"binary":     binding.WithForceBinary,
			} {
				result := client.Send(force(context.Background()), event(name, mode, kind))
				if cloudevents.IsUndelivered(result) {
					log.Fatal(result)
				}
				sent++
			}
		}
	}
	coreSender.Close(context.Background())
	streamSender.Close(context.Background())
	fmt.Println(sent)
}
