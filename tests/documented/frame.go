// What the blocks of docs/your-publisher.md for Go need around them.
package main

import (
	"context"
	"log"
	"os"

	"github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
)

func publish(ctx context.Context, url string) error {
	// The blocks.
	return sender.Close(ctx)
}

func main() {
	if err := publish(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
}
