package embedded

import (
	"testing"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/process"
)

// All services must know the same kinds; their defaults stand in three tags.
func TestServicesKnowTheSameKinds(t *testing.T) {
	t.Parallel()
	var want guildhall.Kinds
	if err := want.Decode(guildhall.DefaultKinds); err != nil {
		t.Fatal(err)
	}
	var c Config
	for _, config := range c.Services() {
		process.FillZero(config)
	}
	for name, kinds := range map[string]guildhall.Kinds{
		"frontend": c.Frontend.Kinds, "director": c.Director.Kinds, "roomserver": c.Host.Kinds,
	} {
		if kinds.String() != want.String() {
			t.Errorf("%s knows %q by default, want %q", name, kinds, want)
		}
	}
}
