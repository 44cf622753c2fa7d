// Package export_hookmill_transform_handler is the contract's side of the transform. Nothing here needs to change.
//
// Errors that are no Rejected, and panics, are answered as *retry* with their text: a panic that leaves it would end the
// instance without any message.
package export_hookmill_transform_handler

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	witTypes "go.bytecodealliance.org/pkg/wit/types"

	"wit_component/hookmill"
	"wit_component/hookmill_transform_clock"
	"wit_component/hookmill_transform_log"
	. "wit_component/hookmill_transform_types"
	"wit_component/transform"
)

var apply hookmill.Apply

func init() {
	hookmill.Now = func() time.Time { return time.UnixMilli(int64(hookmill_transform_clock.Now())) }
	hookmill.Log = func(level, text string) {
		levels := map[string]hookmill_transform_log.Level{
			"debug": hookmill_transform_log.LevelDebug,
			"info":  hookmill_transform_log.LevelInfo,
			"warn":  hookmill_transform_log.LevelWarn,
		}
		found, known := levels[level]
		if !known {
			found = hookmill_transform_log.LevelError
		}
		hookmill_transform_log.Log(found, text)
	}
}

func Configure(settings string) (result witTypes.Result[witTypes.Unit, string]) {
	defer func() {
		if problem := recover(); problem != nil {
			result = witTypes.Err[witTypes.Unit, string](textOf(problem))
		}
	}()
	made, err := transform.Configure(json.RawMessage(settings))
	if err != nil {
		return witTypes.Err[witTypes.Unit, string](err.Error())
	}
	apply = made
	return witTypes.Ok[witTypes.Unit, string](witTypes.Unit{})
}

func Apply(event Event) (result witTypes.Result[Verdict, Failure]) {
	defer func() {
		if problem := recover(); problem != nil {
			result = witTypes.Err[Verdict, Failure](MakeFailureRetry(textOf(problem)))
		}
	}()
	verdict, err := apply(inward(event))
	if err != nil {
		return failed(err)
	}
	answer, err := outward(verdict)
	if err != nil {
		return failed(err)
	}
	return witTypes.Ok[Verdict, Failure](answer)
}

func failed(err error) witTypes.Result[Verdict, Failure] {
	var rejected hookmill.Rejected
	if errors.As(err, &rejected) {
		return witTypes.Err[Verdict, Failure](MakeFailureRejected(rejected.Error()))
	}
	return witTypes.Err[Verdict, Failure](MakeFailureRetry(err.Error()))
}

// The text of a panic, with the place in the transform that it came from.
func textOf(problem any) string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, "wit_component/transform.") {
			file := frame.File[strings.LastIndexByte(frame.File, '/')+1:]
			return fmt.Sprintf("panic: %v (%s:%d)", problem, file, frame.Line)
		}
		if !more {
			return fmt.Sprintf("panic: %v", problem)
		}
	}
}

func inward(event Event) hookmill.Event {
	extensions := make(map[string]any, len(event.Extensions))
	for _, extension := range event.Extensions {
		switch extension.Value.Tag() {
		case ValueText:
			extensions[extension.Name] = extension.Value.Text()
		case ValueInteger:
			extensions[extension.Name] = extension.Value.Integer()
		case ValueBoolean:
			extensions[extension.Name] = extension.Value.Boolean()
		}
	}
	return hookmill.Event{
		ID:              event.Id,
		Source:          event.Source,
		Type:            event.Type,
		Subject:         event.Subject.SomeOr(""),
		Time:            event.Time.SomeOr(""),
		DataContentType: event.Datacontenttype.SomeOr(""),
		DataSchema:      event.Dataschema.SomeOr(""),
		Extensions:      extensions,
		Data:            event.Data.SomeOr(nil),
	}
}

func outward(verdict hookmill.Verdict) (Verdict, error) {
	switch answer := verdict.(type) {
	case hookmill.Keep:
		return MakeVerdictKeep(), nil
	case hookmill.Drop:
		return MakeVerdictDrop(string(answer)), nil
	case hookmill.Replace:
		output, err := outputOf(answer)
		return MakeVerdictReplace(output), err
	case hookmill.Split:
		outputs := make([]Output, 0, len(answer))
		for _, part := range answer {
			output, err := outputOf(part)
			if err != nil {
				return Verdict{}, err
			}
			outputs = append(outputs, output)
		}
		return MakeVerdictSplit(outputs), nil
	default:
		return Verdict{}, errors.New("apply returned none of Keep, Drop, Replace and Split")
	}
}

func outputOf(replace hookmill.Replace) (Output, error) {
	event := replace.Event
	extensions := make([]Extension, 0, len(event.Extensions))
	// In a fixed order: the same event has the same bytes each time.
	for _, name := range slices.Sorted(maps.Keys(event.Extensions)) {
		attribute, err := attributeOf(name, event.Extensions[name])
		if err != nil {
			return Output{}, err
		}
		extensions = append(extensions, Extension{Name: name, Value: attribute})
	}
	headers := make([]Header, 0, len(replace.Headers))
	for _, name := range slices.Sorted(maps.Keys(replace.Headers)) {
		headers = append(headers, Header{Name: strings.ToLower(name), Value: replace.Headers[name]})
	}
	data := witTypes.None[[]uint8]()
	if event.Data != nil {
		data = witTypes.Some(event.Data)
	}
	return Output{
		Event: Event{
			Id:              event.ID,
			Source:          event.Source,
			Type:            event.Type,
			Subject:         optional(event.Subject),
			Time:            optional(event.Time),
			Datacontenttype: optional(event.DataContentType),
			Dataschema:      optional(event.DataSchema),
			Extensions:      extensions,
			Data:            data,
		},
		Headers: headers,
	}, nil
}

func optional(text string) witTypes.Option[string] {
	if text == "" {
		return witTypes.None[string]()
	}
	return witTypes.Some(text)
}

func attributeOf(name string, value any) (Value, error) {
	switch value := value.(type) {
	case string:
		return MakeValueText(value), nil
	case bool:
		return MakeValueBoolean(value), nil
	case int32:
		return MakeValueInteger(value), nil
	case int:
		if value >= math.MinInt32 && value <= math.MaxInt32 {
			return MakeValueInteger(int32(value)), nil
		}
	}
	return Value{}, fmt.Errorf("extension %s is neither text, boolean nor an integer of 32 bits", name)
}
