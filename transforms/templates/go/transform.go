// Package transform stamps orders with a region and drops test orders. Change it to what you need.
package transform

import (
	"encoding/json"
	"errors"

	"wit_component/hookmill"
)

// Settings is what the pipeline file says under `settings`.
type Settings struct {
	Region string `json:"region"`
}

// Order is as much of the data as is looked at.
type Order struct {
	Test bool `json:"test"`
}

// Configure runs once for each instance. Its error is shown by `hookmill check`.
func Configure(raw json.RawMessage) (hookmill.Apply, error) {
	var settings Settings
	if err := json.Unmarshal(raw, &settings); err != nil {
		return nil, err
	}
	if settings.Region == "" {
		return nil, errors.New(`region is empty; give it a name such as "eu"`)
	}
	return func(event hookmill.Event) (hookmill.Verdict, error) {
		var order *Order
		if err := event.JSON(&order); err != nil {
			return nil, err
		}
		if order.Test {
			return hookmill.Drop("a test order"), nil
		}
		hookmill.Log("debug", "stamped with "+settings.Region)
		return hookmill.Replace{Event: event.WithExtension("region", settings.Region)}, nil
	}, nil
}
