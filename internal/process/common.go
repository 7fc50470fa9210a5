package process

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/term"

	"github.com/guildhall-dev/guildhall/internal/tracing"
)

// Common is the part of a Config that every service has. A service embeds it.
type Common struct {
	AdminListen string        `split_words:"true" default:":9090" desc:"where /livez, /readyz and /metrics are served"`
	LogLevel    slog.Level    `split_words:"true" default:"INFO" desc:"DEBUG, INFO, WARN or ERROR"`
	LogFormat   string        `split_words:"true" default:"auto" desc:"json, pretty, or auto: pretty on a terminal"`
	Pprof       bool          `split_words:"true" desc:"serve /debug/pprof on the admin port"`
	StopGrace   time.Duration `split_words:"true" default:"20s" desc:"how long the stop of each part waits for what runs before it forces; a pod needs more than twice that"`

	// Logger is where the service logs; nil means nowhere.
	Logger *slog.Logger `ignored:"true"`
	// Metrics is where the service registers; nil means a registry of its own.
	Metrics *prometheus.Registry `ignored:"true"`
	// Tracer makes the service's spans; its zero value makes none.
	Tracer tracing.Tracer `ignored:"true"`

	flush func() `ignored:"true"` // sends the last spans; nil before Open
}

// Base gives the part itself; [Main] finds it by this method.
func (c *Common) Base() *Common { return c }

// FillIn makes an unset Logger and Metrics work.
func (c *Common) FillIn() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
}

// Open makes the Logger, the Metrics and the Tracer that the configuration asks for.
func (c *Common) Open(service string) error {
	handler, err := LogHandler(os.Stderr, c.LogFormat, c.LogLevel)
	if err != nil {
		return err
	}
	c.Logger = slog.New(handler).With("service", service)
	c.Metrics = prometheus.NewRegistry()
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "guildhall_build_info", Help: "Always 1: which version of which part this is.",
	}, []string{"part", "version"})
	build.WithLabelValues(service, Version()).Set(1)
	c.Metrics.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	c.Tracer, c.flush, err = openTracing(service, c.Logger)
	return err
}

// Close sends what is left to send, when the service has ended.
func (c *Common) Close() {
	if c.flush != nil {
		c.flush()
	}
}

// LogHandler makes the handler for a log format: json, pretty, or auto.
func LogHandler(w io.Writer, format string, level slog.Level) (slog.Handler, error) {
	file, isFile := w.(*os.File)
	onTerminal := isFile && term.IsTerminal(int(file.Fd()))
	switch {
	case format == "json", format == "auto" && !onTerminal:
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}), nil
	case format == "pretty", format == "auto":
		return tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly, NoColor: !onTerminal}), nil
	}
	return nil, fmt.Errorf("%s_LOG_FORMAT=%q: want json, pretty or auto", Prefix, format)
}
