package process

import (
	"runtime/debug"
	"sync"
)

// release is the version of a released binary; the linker sets it.
var release string

// Version gives the version of this binary: its release, else the version control's revision it was built
// from, else "dev".
func Version() string { return version() }

// version is found out once: a host tells it with every sign of life.
var version = sync.OnceValue(func() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return "dev-" + setting.Value[:min(12, len(setting.Value))]
		}
	}
	return "dev"
})
