//go:build !race

package chaos

import "time"

// builtSize fits a minute on two cores.
var builtSize = size{
	For: 30 * time.Second, Every: time.Second, Groups: 40, Players: 5, Hosts: 4, Directors: 3, Frontends: 3,
	Rate: 60, Kills: 2, RoomIdle: 3 * time.Second, HostIdle: 5 * time.Second,
	StormOne: 500, StormPlayers: 2000, StormOf: 150,
}
