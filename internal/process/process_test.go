package process_test

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/director"
	"github.com/guildhall-dev/guildhall/frontend"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/matchfunction"
	"github.com/guildhall-dev/guildhall/roomserver"
)

// fresh makes the zero Config of each service.
var fresh = map[string]func() any{
	"frontend":      func() any { return new(frontend.Config) },
	"director":      func() any { return new(director.Config) },
	"matchfunction": func() any { return new(matchfunction.Config) },
	"roomserver":    func() any { return new(roomserver.Config) },
}

// TestEveryConfigFillsAndLoadsAlike also sees that every default parses: FillZero panics otherwise.
func TestEveryConfigFillsAndLoadsAlike(t *testing.T) {
	t.Parallel()
	for name, zero := range fresh {
		loaded, filled := zero(), zero()
		if err := process.Load(nil, loaded); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		process.FillZero(filled)
		if !reflect.DeepEqual(loaded, filled) {
			t.Errorf("%s: Load gives %+v, FillZero %+v", name, loaded, filled)
		}
		again := zero()
		process.FillZero(again)
		process.FillZero(again)
		if !reflect.DeepEqual(again, filled) {
			t.Errorf("%s: filling twice gives %+v", name, again)
		}
	}
}

// TestEveryConfigRoundTrips sets every field of every Config to something that is not its default, and reads it
// back from the environment that Environ gives: so the hosts of `guildhall up` get theirs.
func TestEveryConfigRoundTrips(t *testing.T) {
	for name, zero := range fresh {
		t.Run(name, func(t *testing.T) {
			config, loaded := zero(), zero()
			set := setAll(t, reflect.ValueOf(config).Elem())
			environ := process.Environ(config)
			if len(environ) != set {
				t.Errorf("%d fields are set, Environ gives %d: %v", set, len(environ), environ)
			}
			for _, pair := range environ {
				name, value, _ := strings.Cut(pair, "=")
				t.Setenv(name, value)
			}
			if err := process.Load(nil, loaded); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(loaded, config) {
				t.Errorf("became %+v, was %+v", loaded, config)
			}
		})
	}
}

// setAll sets all fields that the environment has, and gives how many.
func setAll(t *testing.T, config reflect.Value) int {
	t.Helper()
	count := 0
	for i := range config.NumField() {
		field, tag := config.Field(i), config.Type().Field(i).Tag
		switch {
		case config.Type().Field(i).Anonymous, field.Type() == reflect.TypeFor[roomserver.Limits]():
			count += setAll(t, field)
			continue
		case tag.Get("ignored") == "true":
			continue
		}
		field.Set(reflect.ValueOf(unusual(t, field.Interface(), i)))
		count++
	}
	return count
}

// unusual gives a value of the same type that is no default.
func unusual(t *testing.T, of any, i int) any {
	t.Helper()
	switch of.(type) {
	case string:
		return fmt.Sprintf("text %d, with = and : and ü", i)
	case []string:
		return []string{"https://a.example", "https://b.example:8443", "*"}
	case int:
		return 10_000 + i
	case bool:
		return true
	case time.Duration:
		return time.Duration(i+1)*time.Hour + 1500*time.Millisecond
	case slog.Level:
		return slog.LevelWarn
	case director.Door:
		return director.DoorKubernetes
	case director.Labels:
		return director.Labels{"tier": "gold", "region": "eu"}
	case director.Headroom:
		return director.Headroom(10_000 + i)
	case guildhall.Kinds:
		return guildhall.Kinds{"clan": {Capacity: 7, IdleGrace: 90 * time.Second, History: 3, Keep: time.Hour}, "raid": {Capacity: 1, IdleGrace: time.Millisecond, History: 9}}
	}
	t.Fatalf("no unusual value for a %T: teach this test one", of)
	return nil
}

func TestUsageOfAllServicesListsEveryVariableOnce(t *testing.T) {
	t.Parallel()
	var configs []any
	want := map[string]bool{}
	for _, zero := range fresh {
		config := zero()
		setAll(t, reflect.ValueOf(config).Elem())
		for _, pair := range process.Environ(config) {
			name, _, _ := strings.Cut(pair, "=")
			want[name] = true
		}
		configs = append(configs, zero())
	}
	var table strings.Builder
	if err := process.Usage(&table, configs...); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, line := range strings.Split(strings.TrimSpace(table.String()), "\n")[1:] {
		fields := strings.Fields(line)
		names = append(names, fields[0])
		if !want[fields[0]] {
			t.Errorf("Usage lists %s, which nobody reads", fields[0])
		}
		if len(fields) < 3 {
			t.Errorf("%s has no meaning in the table", fields[0])
		}
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(want) || len(names) != len(want) {
		t.Errorf("Usage has %d lines, want %d variables once each", len(names), len(want))
	}
}

// One variable means one thing, whichever service reads it: they share one environment in `guildhall up`.
func TestSharedVariablesHaveOneType(t *testing.T) {
	t.Parallel()
	values := map[string]string{}
	for name, zero := range fresh {
		config := zero()
		process.FillZero(config)
		for _, pair := range process.Environ(config) {
			variable, value, _ := strings.Cut(pair, "=")
			if variable == "GUILDHALL_LISTEN" {
				continue // each service's own port
			}
			if other, found := values[variable]; found && other != value {
				t.Errorf("%s: the default of %s is %q here and %q elsewhere", name, variable, value, other)
			}
			values[variable] = value
		}
	}
}
