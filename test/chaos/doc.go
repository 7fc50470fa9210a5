// Package chaos breaks a running installation on purpose: the real programs, each a process of its own, with a cluster of
// NATS, several directors and frontends, hosts, and players who talk. The paths between them are cables of ours
// (cable_test.go), but for those of players to frontends, of hosts to their sidecars, and of NATS among its nodes. Faults (faults_test.go) kill and pause processes, and cut, freeze and deafen cables, one after
// the other, for shorter and for longer than a host's lease. Each client writes down what it did and was told
// (history_test.go); in the end what NATS has is read back, and all of it is checked against the promises
// (check_test.go):
//
//	go test ./test/chaos             # about two minutes, with the storms
//	make chaos                       # ten minutes, 1,000 players
//	go test ./test/chaos -run TestChaos -v -timeout 30m -chaos.for=10m -chaos.seed=7 -chaos.only="pause host,kill nats"
//
// Open Match is the stand-in, or a real one whose addresses are given, used by nobody else; its processes are paused as the
// stand-in is if their ids are given, separated by commas:
//
//	GUILDHALL_TEST_OPENMATCH_FRONTEND, _BACKEND, _QUERY   host:port of each service
//	GUILDHALL_TEST_OPENMATCH_PIDS                         of all its services, or of its one process
//
// # Why what is checked is enough
//
// Two rooms in which people talk at the same time would be two hosts that both take what is said, or both show it. The
// check knows nothing of hosts, claims or fences; it looks at what players can know:
//
//  1. Everything that anybody was acked or shown is in the group's one log, at the number they were told, with the same
//     sender, id and body. So whatever two hosts showed, they showed one sequence: there is no second one that somebody
//     else saw. This includes who comes last and reads all from the beginning.
//  2. Numbers of the log follow one another, and each client was shown consecutive ones. So nobody was in a room that
//     left out what another showed.
//  3. Epochs never fall along the log. So what the host of an epoch took is one stretch of the log, and all that a
//     later one took is behind it: they did not take turns. Nobody was acked or shown a message by a session of an earlier
//     epoch than that of its entry: a host that had lost its room never passed on what was said in the next.
//  4. Whoever says something after somebody knows a message (by an ack or by seeing it) gets a greater number than
//     that. All players have one clock, that of the test.
//
// Say that two hosts both took speech at the same time: each acked or showed something that was said after the other
// had begun to. By 3 all that the one took stands before all that the other took; so the first one took something that was
// said after a later number was known, which 4 forbids. So the rooms of a group follow one another, and it has one at a
// time, as far as anybody can tell who is in them.
//
// That members are not left behind, listening to a host that nobody speaks to, is what the end checks: once all is mended
// everybody says a last message, it is acked, and everybody sees everybody's. While hosts are cut off or stand still
// for longer than their lease, visitors come to their groups and speak: otherwise nobody would ask for the room, it would
// not be opened elsewhere, and the old host would have nobody to be split from.
//
// A check that cannot fail is worth nothing: badhistory_test.go breaks each promise by hand. And the whole has been run
// against programs that were broken on purpose: without the log's compare-and-append it finds hundreds of splits in half a
// minute; when a room acks what may not be in the log, losses; without the memory of what was said, duplicates; without
// the reaper, leaks.
//
// What the check cannot see: that a message came late, that a player was told of presence wrongly, and faults of the
// machine itself. All processes share one clock and one disk; NATS does not lose what it has written, for its machine
// does not die.
//
// What remains when everybody has left is looked for where it would be: in the registry's bucket, in Open Match's
// pools, among Agones' game servers, among the processes.
package chaos
