package load

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteTable writes a report for a terminal.
func (r Report) WriteTable(w io.Writer) error {
	fmt.Fprintln(w, r.Title)
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range r.Rows {
		fmt.Fprintf(table, "  %s\t%s\n", row.Name, row.Value)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	verdict := "every promise held"
	if len(r.Breaches) > 0 {
		verdict = "BROKEN: " + strings.Join(r.Breaches, "; ")
	}
	_, err := fmt.Fprintln(w, "  "+verdict)
	return err
}

//go:embed report.html
var reportText string

var reportTemplate = template.Must(template.New("report").Parse(reportText))

// WriteHTML writes a report as one page that needs nothing else.
func (r Report) WriteHTML(w io.Writer, at time.Time) error {
	page := struct {
		Report
		At    string
		Plots []plot
	}{Report: r, At: at.UTC().Format(time.RFC1123)}
	for _, d := range r.Distributions {
		page.Plots = append(page.Plots, distributionPlot(d))
	}
	for _, l := range r.Lines {
		page.Plots = append(page.Plots, linesPlot(l))
	}
	return reportTemplate.Execute(w, page)
}

// The size of a plot, in pixels of its own, and its margins.
const (
	plotWidth, plotHeight = 760.0, 260.0
	plotLeft, plotTop     = 64.0, 12.0
	plotRight, plotBottom = plotWidth - 28, plotHeight - 34
)

// plot is one plot, as the template draws it.
type plot struct {
	Title, Unit            string
	Width, Height          float64
	Left, Top, Right, Base float64
	XTicks, YTicks         []tick
	XName                  string
	Curves                 []curve
}

// tick is a mark on an axis.
type tick struct {
	At   float64
	Text string
}

// curve is a line of a plot.
type curve struct {
	Name   string
	Index  int
	Points string
	// TextX and TextY are where its name stands in the legend.
	TextX, TextY float64
}

func newPlot(title, unit, xName string, top float64) plot {
	p := plot{
		Title: title, Unit: unit, Width: plotWidth, Height: plotHeight, Left: plotLeft, Top: plotTop, Right: plotRight, Base: plotBottom, XName: xName,
	}
	for i := 0.0; i <= 4; i++ {
		p.YTicks = append(p.YTicks, tick{y(top*i/4, top), number(top * i / 4)})
	}
	return p
}

// y gives where a value is, if the greatest is top.
func y(value, top float64) float64 {
	return plotBottom - (plotBottom-plotTop)*math.Min(value/top, 1)
}

// x gives where a share of the width is.
func x(share float64) float64 { return plotLeft + (plotRight-plotLeft)*share }

// nines is how far along the axis a percentile is: each nine is as wide as the one before, so that the slow ones are seen.
func nines(percentile float64) float64 {
	const most = 4
	return math.Min(-math.Log10(1-percentile/100), most) / most
}

// distributionPlot draws times by percentile.
func distributionPlot(d Distribution) plot {
	top := nice(d.Times.Max)
	p := newPlot(d.Title, d.Unit, "percentile", top)
	for _, percentile := range []float64{0, 50, 90, 99, 99.9, 99.99} {
		p.XTicks = append(p.XTicks, tick{x(nines(percentile)), fmt.Sprint(percentile)})
	}
	var points strings.Builder
	const steps = 120
	for i := range steps {
		share := float64(i) / steps
		fmt.Fprintf(&points, "%.1f,%.1f ", x(share), y(d.Times.at(100*(1-math.Pow(10, -4*share))), top))
	}
	fmt.Fprintf(&points, "%.1f,%.1f", x(1), y(d.Times.Max, top))
	p.Curves = []curve{{Points: points.String()}}
	return p
}

// linesPlot draws lines over time.
func linesPlot(l Lines) plot {
	greatest, last := 0.0, 0.0
	for _, line := range l.Series {
		for i, value := range line.Value {
			greatest, last = math.Max(greatest, value), math.Max(last, line.Seconds[i])
		}
	}
	top := nice(greatest)
	p := newPlot(l.Title, l.Unit, "seconds", top)
	last = math.Max(last, 1e-9)
	for i := 0.0; i <= 5; i++ {
		p.XTicks = append(p.XTicks, tick{x(i / 5), number(last * i / 5)})
	}
	for index, line := range l.Series {
		var points []string
		for i, value := range line.Value {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(line.Seconds[i]/last), y(value, top)))
		}
		if len(points) == 0 {
			continue
		}
		c := curve{Name: line.Name, Index: index, Points: strings.Join(points, " ")}
		if len(l.Series) > 1 {
			c.TextX, c.TextY = plotLeft+12, plotTop+16+18*float64(index)
		}
		p.Curves = append(p.Curves, c)
	}
	return p
}

// nice gives a round number that is not less.
func nice(value float64) float64 {
	if value <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(value)))
	for _, step := range []float64{1, 2, 4, 5, 8} {
		if value <= step*unit {
			return step * unit
		}
	}
	return 10 * unit
}

// number gives a number for an axis.
func number(value float64) string {
	switch {
	case value >= 1e6:
		return fmt.Sprintf("%.4gM", value/1e6)
	case value >= 1e4:
		return fmt.Sprintf("%.4gk", value/1e3)
	case value >= 100:
		return fmt.Sprintf("%.0f", value)
	}
	return fmt.Sprintf("%.3g", value)
}
