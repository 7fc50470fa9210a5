package roomserver

import (
	"fmt"
	"strings"

	"agones.dev/agones/pkg/sdk"
)

// noMark as GUILDHALL_AGONES_OVERFLOW lets no label drain a host.
const noMark = "none"

// mark is a label or an annotation that a fleet puts on those of its allocated game servers which are too many: what the
// Fleet's spec.allocationOverflow says. The zero mark is on nobody.
type mark struct{ key, value string }

// parseMark reads KEY=VALUE, or none.
func parseMark(text string) (mark, error) {
	if text == noMark {
		return mark{}, nil
	}
	key, value, found := strings.Cut(text, "=")
	if !found || key == "" || value == "" {
		return mark{}, fmt.Errorf("GUILDHALL_AGONES_OVERFLOW=%q: want KEY=VALUE, as in the Fleet's spec.allocationOverflow, or %s", text, noMark)
	}
	return mark{key: key, value: value}, nil
}

// String gives the mark as it is configured.
func (m mark) String() string {
	if m == (mark{}) {
		return noMark
	}
	return m.key + "=" + m.value
}

// on says whether a game server has the mark.
func (m mark) on(meta *sdk.GameServer_ObjectMeta) bool {
	return m.key != "" && (meta.GetLabels()[m.key] == m.value || meta.GetAnnotations()[m.key] == m.value)
}
