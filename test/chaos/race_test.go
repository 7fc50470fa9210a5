//go:build race

package chaos

import "time"

// builtSize is small: every process is several times slower, and all share the machine with the tests of other packages.
var builtSize = size{
	For: 20 * time.Second, Every: 2 * time.Second, Groups: 12, Players: 4, Hosts: 3, Directors: 2, Frontends: 2,
	Rate: 20, Kills: 1, RoomIdle: 3 * time.Second, HostIdle: 5 * time.Second,
	StormOne: 100, StormPlayers: 500, StormOf: 40,
}
