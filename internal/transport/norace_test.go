//go:build !race

package transport

// racing says that the race detector is in, which allocates.
const racing = false
