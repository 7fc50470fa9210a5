// Package e2e holds the one end-to-end suite of Guildhall. It runs against everything in one process tree by
// default, and against any other installation whose address is in GUILDHALL_TEST_SERVER (a development server).
//
// Tests that break something start an installation of their own in either case; with GUILDHALL_TEST_OPENMATCH_FRONTEND, _BACKEND and
// _QUERY, host:port, it has that real Open Match, which nobody else may use meanwhile.
//
// What it does, it does as a player or as an operator would.
package e2e
