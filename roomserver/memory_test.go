package roomserver

import "testing"

// Memory is given back once for each crowd, when it sits: not while it comes, and not because others take the place of those who go.
func TestMemoryIsGivenBackOnceForEachCrowd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		sessions []int64
		released []int // behind which look
	}{
		{"nobody", []int64{0, 0, 0}, nil},
		{"a few", []int64{500, 999, 999, 999}, nil},
		{"a crowd", []int64{600, 1200, 2000, 2000, 2000, 2001}, []int{3}},
		{"a crowd that trickles in", []int64{300, 600, 900, 1200, 1205, 1210}, []int{4}},
		{"two", []int64{1000, 1000, 2500, 2500, 2500}, []int{1, 3}},
		{"others in their place", []int64{1500, 1500, 1400, 1500, 1500, 1450, 1500, 1500}, []int{1}},
		{"others when all had gone", []int64{1500, 1500, 0, 1500, 1500}, []int{1, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			look, next := 0, 0
			watch := inrushWatch{release: func() {
				if next >= len(c.released) || c.released[next] != look {
					t.Errorf("memory was given back behind look %d, want %v", look, c.released)
				}
				next++
			}}
			var sessions int64
			for look, sessions = range c.sessions {
				watch.look(sessions)
			}
			if next != len(c.released) {
				t.Errorf("memory was given back %d times, want behind %v", next, c.released)
			}
		})
	}
}
