// Package e2e holds the one end-to-end suite of Guildhall. It runs against everything in one process tree by
// default, and against any other installation whose address is in GUILDHALL_TEST_SERVER (a development server).
// What it does, it does as a player or as an operator would.
package e2e
