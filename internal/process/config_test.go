package process

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// sample has a field of every kind that a Config has.
type sample struct {
	Common
	Listen string        `split_words:"true" default:":7" desc:"a text"`
	Many   []string      `split_words:"true" desc:"a list"`
	Wait   time.Duration `split_words:"true" default:"3s" desc:"a time"`
	Count  int           `split_words:"true" default:"50" desc:"a number"`
	On     bool          `split_words:"true" desc:"a switch"`
	Empty  string        `split_words:"true" desc:"nothing"`

	Hidden func() `ignored:"true"`
}

// environment sets variables for a test, which therefore runs alone.
func environment(t *testing.T, pairs ...string) {
	t.Helper()
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
}

func TestLoad(t *testing.T) {
	environment(t, "GUILDHALL_LISTEN=:8", "GUILDHALL_MANY=a,b", "GUILDHALL_WAIT=5m", "GUILDHALL_COUNT=7", "GUILDHALL_ON=true",
		"GUILDHALL_LOG_LEVEL=debug", "GUILDHALL_ADMIN_LISTEN=:1", "LISTEN=:9", "COUNT=x")
	var c sample
	if err := Load(nil, &c); err != nil {
		t.Fatal(err)
	}
	if c.Listen != ":8" || !slices.Equal(c.Many, []string{"a", "b"}) || c.Wait != 5*time.Minute || c.Count != 7 || !c.On ||
		c.LogLevel != slog.LevelDebug || c.AdminListen != ":1" || c.Empty != "" {
		t.Errorf("Load = %+v", c)
	}
}

func TestLoadDefaults(t *testing.T) {
	t.Parallel()
	var loaded, filled sample
	if err := Load(nil, &loaded); err != nil {
		t.Fatal(err)
	}
	if FillZero(&filled); loaded.Listen != ":7" || loaded.Count != 50 || loaded.StopGrace != 20*time.Second ||
		!slices.Equal(Environ(&loaded), Environ(&filled)) {
		t.Errorf("Load gives %v, FillZero %v", Environ(&loaded), Environ(&filled))
	}
}

func TestFillZeroLeavesWhatIsSet(t *testing.T) {
	t.Parallel()
	c := sample{Listen: ":8", Many: []string{"a"}, Count: -1, On: true, Common: Common{LogFormat: "json"}}
	FillZero(&c)
	if c.Listen != ":8" || c.Count != -1 || !c.On || c.LogFormat != "json" || len(c.Many) != 1 || c.Wait != 3*time.Second {
		t.Errorf("FillZero made %+v of it", c)
	}
}

func TestFillZeroDoesNotReadTheEnvironment(t *testing.T) {
	environment(t, "GUILDHALL_LISTEN=:8", "GUILDHALL_COUNT=x", "LISTEN=:9")
	var c sample
	FillZero(&c)
	if c.Listen != ":7" || c.Count != 50 {
		t.Errorf("FillZero read the environment: %+v", c)
	}
}

func TestValueThatDoesNotParse(t *testing.T) {
	for _, pair := range []string{
		"GUILDHALL_WAIT=soon", "GUILDHALL_WAIT=5", "GUILDHALL_COUNT=many", "GUILDHALL_COUNT=1e9", "GUILDHALL_ON=perhaps", "GUILDHALL_LOG_LEVEL=LOUD",
		"GUILDHALL_STOP_GRACE=20", "GUILDHALL_PPROF=yes please",
	} {
		t.Run(pair, func(t *testing.T) {
			environment(t, pair)
			name, value, _ := strings.Cut(pair, "=")
			err := Load(nil, &sample{})
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), value) {
				t.Errorf("Load: %v, want an error that names the variable and its value", err)
			}
		})
	}
}

func TestCheckUnknown(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"GUILDHALL_LISTEN": true}
	for _, pair := range []string{
		"GUILDHALL_LISTEN=:7", "PATH=/bin", "GUILDHALL=1", "GUILDHALLS_X=1", "XGUILDHALL_X=1", "guildhall_x=1",
		"GUILDHALL_TEST_NATS=nats://x", "GUILDHALL_TEST_=",
		// What Kubernetes sets for a Service guildhall-frontend, and for one that is called guildhall.
		"GUILDHALL_FRONTEND_SERVICE_HOST=10.0.0.1", "GUILDHALL_FRONTEND_SERVICE_PORT=7777", "GUILDHALL_FRONTEND_SERVICE_PORT_GRPC_WEB=7777",
		"GUILDHALL_FRONTEND_PORT=tcp://10.0.0.1:7777", "GUILDHALL_FRONTEND_PORT_7777_TCP=tcp://10.0.0.1:7777",
		"GUILDHALL_FRONTEND_PORT_7777_TCP_PROTO=tcp", "GUILDHALL_FRONTEND_PORT_7777_TCP_PORT=7777", "GUILDHALL_FRONTEND_PORT_7777_TCP_ADDR=10.0.0.1",
		"GUILDHALL_NATS_PORT_53_UDP=udp://10.0.0.1:53", "GUILDHALL_NATS_PORT=udp://10.0.0.1:53", "GUILDHALL_X_PORT_9_SCTP_PORT=9",
		"GUILDHALL_SERVICE_HOST=10.0.0.1", "GUILDHALL_SERVICE_PORT=80", "GUILDHALL_PORT=tcp://10.0.0.1:80", "GUILDHALL_PORT_80_TCP_PORT=80",
	} {
		if err := checkUnknown([]string{pair}, known); err != nil {
			t.Errorf("%s: %v", pair, err)
		}
	}
	for _, pair := range []string{
		"GUILDHALL_LISTN=:7", "GUILDHALL_=1", "GUILDHALL_FOO_PORT=5", "GUILDHALL_PORT=5", "GUILDHALL_PORT=", "GUILDHALL_LISTEN_PORT=tcp",
		"GUILDHALL_TESTING=1", "GUILDHALL_listen=:7", "GUILDHALL_PORT_X_TCP=1", "GUILDHALL_DEFAULTS_ONLY_LISTEN=:7",
	} {
		name, _, _ := strings.Cut(pair, "=")
		err := checkUnknown([]string{"PATH=/bin", pair}, known)
		if err == nil || !strings.Contains(err.Error(), name+" is not a variable") {
			t.Errorf("%s: %v, want an error that names it", pair, err)
		}
	}
}

func TestLoadRefusesUnknownUnlessReadElsewhere(t *testing.T) {
	environment(t, "GUILDHALL_CLI_ONLY=1")
	if err := Load(nil, &sample{}); err == nil || !strings.Contains(err.Error(), "GUILDHALL_CLI_ONLY") {
		t.Errorf("Load: %v, want an error that names the variable", err)
	}
	if err := Load([]string{"GUILDHALL_CLI_ONLY"}, &sample{}); err != nil {
		t.Errorf("Load with the variable read elsewhere: %v", err)
	}
}

func TestUsageListsEveryVariableOnce(t *testing.T) {
	t.Parallel()
	var table bytes.Buffer
	if err := Usage(&table, &sample{}, &roledConfig{}, &sample{}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(table.String()), "\n")
	var names []string
	for _, line := range lines[1:] {
		names = append(names, strings.Fields(line)[0])
	}
	want := []string{
		"GUILDHALL_ADMIN_LISTEN", "GUILDHALL_LOG_LEVEL", "GUILDHALL_LOG_FORMAT", "GUILDHALL_PPROF", "GUILDHALL_STOP_GRACE", "GUILDHALL_LISTEN",
		"GUILDHALL_MANY", "GUILDHALL_WAIT", "GUILDHALL_COUNT", "GUILDHALL_ON", "GUILDHALL_EMPTY", "GUILDHALL_FAIL",
	}
	if !slices.Equal(names, want) {
		t.Errorf("Usage lists %v, want %v", names, want)
	}
	if !strings.Contains(table.String(), ":9090") || !strings.Contains(table.String(), "a list") {
		t.Errorf("Usage tells no defaults or meanings:\n%s", table.String())
	}
}

func TestLogHandler(t *testing.T) {
	t.Parallel()
	for format, begins := range map[string]string{"json": "{", "auto": "{", "pretty": ""} {
		var out bytes.Buffer
		handler, err := LogHandler(&out, format, slog.LevelWarn)
		if err != nil {
			t.Fatal(err)
		}
		logger := slog.New(handler)
		logger.Info("unheard")
		logger.Warn("heard")
		if !strings.HasPrefix(out.String(), begins) || !strings.Contains(out.String(), "heard") || strings.Contains(out.String(), "unheard") {
			t.Errorf("%s: %q", format, out.String())
		}
		if strings.Contains(out.String(), "\x1b") {
			t.Errorf("%s: colour for what is no terminal: %q", format, out.String())
		}
	}
	for _, format := range []string{"", "xml", "JSON"} {
		_, err := LogHandler(os.Stderr, format, slog.LevelInfo)
		if err == nil || !strings.Contains(err.Error(), "GUILDHALL_LOG_FORMAT") || !strings.Contains(err.Error(), "json, pretty or auto") {
			t.Errorf("format %q: %v, want an error that names the variable and what is wanted", format, err)
		}
	}
}

func TestFillInWorksWithoutLoggerAndMetrics(t *testing.T) {
	t.Parallel()
	var c Common
	c.FillIn()
	logger, metrics := c.Logger, c.Metrics
	logger.Info("nowhere")
	if c.FillIn(); c.Logger != logger || c.Metrics != metrics {
		t.Error("FillIn replaced what was set")
	}
}
