package main

import (
	"bytes"
	"encoding/json"
)

// schemaVersion is that of Grafana 12's dashboards. Later ones bring them up to theirs as they load them, and earlier ones, down
// to 10, know all that is used here.
const schemaVersion = 41

// dashboard is what is said of one; grafana.go says the rest.
type dashboard struct {
	uid, title, about string
	// foreign has the metrics of somebody else, whose namespaces are not those of ours: there is no variable for them.
	foreign bool
	rows    []row
}

// row is a line of panels, of the same width, below a title.
type row struct {
	title  string
	panels []panel
}

// panel is one graph.
type panel struct {
	title string
	// unit is Grafana's name of it.
	unit string
	// about says what is shown, worry when that is bad: both are the panel's description.
	about, worry string
	queries      []query
}

// query is one expression, and how its series are called.
type query struct{ expr, legend string }

func (d *dashboard) file() string { return d.uid + ".json" }

// object is one of JSON. Its keys are written in alphabetical order: the same dashboard is always the same text.
type object map[string]any

const (
	columns   = 24 // of a dashboard
	height    = 8  // of a panel
	rowHeight = 1
)

// prometheus is the data source that whoever looks has chosen.
var prometheus = object{"type": "prometheus", "uid": "${datasource}"}

// json gives the dashboard as Grafana reads it.
func (d *dashboard) json() ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(object{
		"uid": d.uid, "title": d.title, "description": d.about, "tags": []string{"guildhall"}, "schemaVersion": schemaVersion,
		"version": 1, "editable": true, "graphTooltip": 1, "refresh": "30s", "time": object{"from": "now-1h", "to": "now"},
		"templating": object{"list": d.variables()}, "panels": d.panels(),
		"links": []object{{
			"type": "dashboards", "title": "Guildhall", "tags": []string{"guildhall"}, "asDropdown": true, "keepTime": true, "includeVars": true,
		}},
	})
	return text.Bytes(), err
}

func (d *dashboard) variables() []object {
	variables := []object{{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}}
	if d.foreign {
		return variables
	}
	return append(variables, object{
		"name": "namespace", "label": "Namespace", "type": "query", "datasource": prometheus,
		"query": object{"query": "label_values(guildhall_build_info, namespace)", "refId": "namespace"}, "refresh": 2, "sort": 1,
		"multi": true, "includeAll": true, "allValue": ".*", "current": object{"text": "All", "value": "$__all"},
	})
}

func (d *dashboard) panels() []object {
	var panels []object
	y := 0
	for _, r := range d.rows {
		panels = append(panels, object{
			"id": len(panels) + 1, "type": "row", "title": r.title, "collapsed": false, "panels": []object{},
			"gridPos": object{"x": 0, "y": y, "w": columns, "h": rowHeight},
		})
		y += rowHeight
		width := columns / len(r.panels)
		for i, p := range r.panels {
			shown := p.json()
			shown["id"] = len(panels) + 1
			shown["gridPos"] = object{"x": i * width, "y": y, "w": width, "h": height}
			panels = append(panels, shown)
		}
		y += height
	}
	return panels
}

func (p *panel) json() object {
	targets := make([]object, len(p.queries))
	for i, q := range p.queries {
		targets[i] = object{"refId": string(rune('A' + i)), "datasource": prometheus, "expr": q.expr, "legendFormat": q.legend, "range": true}
	}
	return object{
		"type": "timeseries", "title": p.title, "description": p.about + "\n\nWorry: " + p.worry, "datasource": prometheus, "targets": targets,
		"fieldConfig": object{"overrides": []object{}, "defaults": object{
			"unit": p.unit, "min": 0, "custom": object{"fillOpacity": 10, "showPoints": "never"},
		}},
		"options": object{
			"legend": object{"displayMode": "list", "placement": "bottom", "showLegend": true}, "tooltip": object{"mode": "multi", "sort": "desc"},
		},
	}
}
