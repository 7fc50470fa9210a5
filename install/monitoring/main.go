// Command monitoring writes Grafana's dashboards for Guildhall, as the chart ships them. Its tests hold them, the rules and
// the runbooks to what a running Guildhall shows. What is on a dashboard stands in dashboards.go.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// folder is where the chart has the dashboards, from that of the module.
const folder = "chart/files/dashboards"

func main() {
	if err := write(folder); err != nil {
		fmt.Fprintln(os.Stderr, "monitoring:", err)
		os.Exit(1)
	}
}

// write writes each dashboard as a file.
func write(folder string) error {
	for _, d := range dashboards {
		text, err := d.json()
		if err != nil {
			return fmt.Errorf("dashboard %s: %w", d.uid, err)
		}
		if err := os.WriteFile(filepath.Join(folder, d.file()), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
