package install

import (
	"strconv"
	"strings"
	"testing"

	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/roomserver"
)

// The Fleet's counter, port and overflow mark are what roomserver counts, serves and looks for.
func TestFleetSuitsRoomserver(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		var defaults roomserver.Config
		process.FillZero(&defaults)
		f, env := theFleet(t, r), environment(podOf(t, r, "roomserver"))
		spec := f.Spec.Template.Spec
		if got := strconv.Itoa(spec.Counters["rooms"].Capacity); got != env["GUILDHALL_ROOMS_PER_HOST"] {
			t.Errorf("the counter's capacity is %s, a host takes %s", got, env["GUILDHALL_ROOMS_PER_HOST"])
		}
		if len(spec.Ports) != 1 || spec.Ports[0].Name != defaults.AgonesPort || spec.Ports[0].Protocol != "TCP" ||
			":"+strconv.Itoa(int(spec.Ports[0].ContainerPort)) != env["GUILDHALL_LISTEN"] {
			t.Errorf("ports %+v, but roomserver serves TCP %s and looks for the port %s", spec.Ports, env["GUILDHALL_LISTEN"], defaults.AgonesPort)
		}
		if spec.Health.Disabled {
			t.Error("nobody would notice a host that hangs")
		}
		if len(f.Spec.AllocationOverflow.Labels) == 0 {
			t.Error("the surplus of a rollout is not marked")
		}
	})
}

// What marks the surplus of a rollout is what a host looks for, if this one looks for anything.
func TestOverflowIsUnderstood(t *testing.T) {
	t.Parallel()
	var defaults roomserver.Config
	process.FillZero(&defaults)
	for _, pair := range process.Environ(&defaults) {
		if mark, looks := strings.CutPrefix(pair, "GUILDHALL_AGONES_OVERFLOW="); looks {
			key, value, _ := strings.Cut(mark, "=")
			if got := theFleet(t, render(t)).Spec.AllocationOverflow.Labels[key]; got != value {
				t.Errorf("the surplus is marked %s=%s, a host looks for %s", key, got, mark)
			}
		}
	}
}

// An upgrade must not undo what the autoscaler decided.
func TestAutoscalerOwnsTheReplicas(t *testing.T) {
	t.Parallel()
	if replicas := theFleet(t, render(t)).Spec.Replicas; replicas != nil {
		t.Errorf("the Fleet says replicas: %d beside an autoscaler", *replicas)
	}
	without := theFleet(t, renderWith(t, "--set", "fleet.autoscaler.enabled=false,fleet.replicas=7"))
	if without.Spec.Replicas == nil || *without.Spec.Replicas != 7 {
		t.Errorf("replicas: %v, want 7", without.Spec.Replicas)
	}
}

// Headroom is kept on allocated hosts: each must live longer than the 5 s after which directors ask for it again.
func TestHostIdleGraceSuitsHeadroom(t *testing.T) {
	t.Parallel()
	everyInstallation(t, func(t *testing.T, r rendered) {
		grace := duration(t, environment(podOf(t, r, "roomserver"))["GUILDHALL_HOST_IDLE_GRACE"])
		if headroom := environment(podOf(t, r, "director"))["GUILDHALL_HEADROOM"]; headroom != "none" && grace.Seconds() < 15 {
			t.Errorf("a headroom of %s on hosts that shut down after %s", headroom, grace)
		}
	})
}
