package load

import (
	"fmt"
	"strings"

	"github.com/guildhall-dev/guildhall/client"
)

// Result is what came of a run. As JSON it is one object.
type Result interface {
	// Report shows it to people.
	Report() Report
	// Breaches says which promises it found broken; nothing if none.
	Breaches() []string
}

var (
	_ Result = (*StormResult)(nil)
	_ Result = (*FanoutResult)(nil)
	_ Result = (*ChurnResult)(nil)
	_ Result = (*IdleResult)(nil)
)

// Report is a result for people.
type Report struct {
	Title string
	Rows  []Row
	// Distributions are of what took time.
	Distributions []Distribution
	// Lines are of what happened over time.
	Lines    []Lines
	Breaches []string
}

// Row is a line of a report's table.
type Row struct{ Name, Value string }

// Distribution is a plot of times.
type Distribution struct {
	Title, Unit string
	Times       *Times
}

// Lines is a plot over time.
type Lines struct {
	Title, Unit string
	Series      []Line
}

// Line is one line of a plot: values by second.
type Line struct {
	Name           string
	Seconds, Value []float64
}

// rowf adds a line.
func (r *Report) rowf(name, format string, v ...any) {
	r.Rows = append(r.Rows, Row{name, fmt.Sprintf(format, v...)})
}

// times adds a line and a plot of times, if there are any.
func (r *Report) times(name, unit string, t *Times) {
	if t == nil {
		r.rowf(name, "nothing measured")
		return
	}
	r.rowf(name, "p50 %s  p95 %s  p99 %s  p99.9 %s  max %s %s", short(t.P50), short(t.P95), short(t.P99), short(t.P999), short(t.Max), unit)
	r.Distributions = append(r.Distributions, Distribution{Title: name, Unit: unit, Times: t})
}

// usage adds lines of what was used.
func (r *Report) usage(u Usage) {
	if u.WhyNot != "" {
		r.rowf("server", "not read: %s", u.WhyNot)
	} else {
		r.rowf("server CPU", "%.2f s in its hosts%s", *u.ServerCPUSeconds, optional(u.StackCPUSeconds, "; %.2f s with the process that started them"))
		r.rowf("server memory", "%s in its hosts", bytesText(*u.ServerRSSBytes))
	}
	r.rowf("client CPU", "%.2f s", u.ClientCPUSeconds)
}

// cores adds a plot of the cores that were busy.
func (r *Report) cores(series []Sample) {
	deliveries, server, client := Line{Name: "deliveries"}, Line{Name: "hosts"}, Line{Name: "players (this process)"}
	for _, s := range series {
		deliveries.add(s.Second, s.Deliveries)
		client.add(s.Second, s.ClientCores)
		if s.ServerCores != nil {
			server.add(s.Second, *s.ServerCores)
		}
	}
	r.Lines = append(r.Lines, Lines{"Deliveries", "per second", []Line{deliveries}}, Lines{"CPU", "cores", []Line{server, client}})
}

func (l *Line) add(second, value float64) {
	l.Seconds, l.Value = append(l.Seconds, second), append(l.Value, value)
}

// short gives a number with three digits or so.
func short(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

// optional gives a text with a number, or nothing if there is none.
func optional(f *float64, format string) string {
	if f == nil {
		return ""
	}
	return fmt.Sprintf(format, *f)
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<20 || n <= -1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10 || n <= -1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

// thousands gives a count with commas.
func thousands(n int64) string {
	text := fmt.Sprint(n)
	sign := ""
	if n < 0 {
		sign, text = "-", text[1:]
	}
	var groups []string
	for len(text) > 3 {
		groups = append([]string{text[len(text)-3:]}, groups...)
		text = text[:len(text)-3]
	}
	return sign + strings.Join(append([]string{text}, groups...), ",")
}

// breach says that there were so many of what must not be; nothing if there were none.
func breach(found []string, n int64, what string) []string {
	if n == 0 {
		return found
	}
	return append(found, thousands(n)+" "+what)
}

func transportName(t client.Transport) string {
	if t == client.WebSocket {
		return "websocket"
	}
	return "grpc"
}
