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

func TestNextPort(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"127.0.0.1:7777": "127.0.0.1:7778", ":7777": ":7778", "[::1]:80": "[::1]:81", "127.0.0.1:0": "127.0.0.1:0",
		"127.0.0.1:http": "127.0.0.1:0", "nonsense": ":0",
	} {
		if got := nextPort(address); got != want {
			t.Errorf("behind %s is %s, want %s", address, got, want)
		}
	}
}
