package embedded

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
)

// Prometheus finds every service and every host, and each shows metrics of its own.
func TestTargetsAreThere(t *testing.T) {
	t.Parallel()
	config := Config{Hosts: 2}
	if err := errors.Join(config.Load(nil), config.Open()); err != nil {
		t.Fatal(err)
	}
	stack := start(t, config)
	code, body := get(t, stack.URL()+targetsPath)
	var targets []target
	if err := json.Unmarshal([]byte(body), &targets); err != nil || code != http.StatusOK {
		t.Fatalf("%d, %v: %s", code, err, body)
	}
	prefixes := map[string]string{
		"frontend": "guildhall_frontend_", "director": "guildhall_director_", "matchfunction": "guildhall_matchfunction_",
		"roomserver": "guildhall_host_",
	}
	found := map[string]int{}
	for _, target := range targets {
		component := target.Labels["app_kubernetes_io_component"]
		found[component]++
		_, metrics := get(t, "http://"+target.Targets[0]+"/metrics")
		for _, want := range []string{prefixes[component], `guildhall_build_info{part="` + component + `"`} {
			if !strings.Contains(metrics, want) {
				t.Errorf("%v shows no %s", target, want)
			}
		}
	}
	for component := range prefixes {
		if found[component] == 0 {
			t.Errorf("no target is a %s: %s", component, body)
		}
	}
}
