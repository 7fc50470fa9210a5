package director

import (
	"context"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/guildhall-dev/guildhall/internal/registry"
)

// A director dies at each step of placing, seen from outside: whoever it calls stops it. Then another places the group:
// there is one room, one claim, and no host is lost.
func TestADirectorDiesAtEachStep(t *testing.T) {
	for _, test := range []struct {
		step string
		// dies arranges that the first director dies; to die again is no harm.
		dies func(w *world, h *smallHost, die func())
		// leaves says whether it has left a claim.
		leaves bool
	}{
		{"while it allocates, and no host is given", func(w *world, _ *smallHost, die func()) {
			w.allocator.before = die
			w.allocator.failWith(codes.Aborted)
		}, false},
		{"after Allocate", func(w *world, h *smallHost, die func()) {
			w.allocator.before = sync.OnceFunc(func() {
				h.become(registry.HostAllocated, w.registry)
				die()
			})
		}, false},
		{"after the claim, before OpenRoom is heard", func(_ *world, h *smallHost, die func()) {
			var once sync.Once
			h.during = func(ctx context.Context) {
				once.Do(func() {
					die()
					<-ctx.Done() // so that the host does not open it for a director who is there no more
				})
			}
		}, true},
		{"after OpenRoom, before the answer is heard", func(_ *world, h *smallHost, die func()) { h.after = die }, true},
		{"before it assigns", func(*world, *smallHost, func()) {}, true},
	} {
		t.Run(test.step, func(t *testing.T) {
			w := setup(t)
			first, second := w.placer(), w.placer()
			h := w.ready(first, 10, "h")[0]
			w.await(second, h)
			ctx, cancel := context.WithCancel(w.ctx)
			defer cancel()
			test.dies(w, h, cancel)
			_, err := first.Place(ctx, testGroup(1))
			if ctx.Err() == nil && err != nil {
				t.Fatalf("a director that lives: %v", err)
			}
			if w.allocator.gave() > 0 { // the host sees its own game server
				h.become(registry.HostAllocated, second.registry)
			}
			claims, err := w.registry.Claims(w.ctx)
			if err != nil || (len(claims) == 1) != test.leaves {
				t.Errorf("it leaves %v, %v", claims, err)
			}
			got := w.mustPlace(second, testGroup(1))
			if len(claims) == 1 && got.GetEpoch() != uint64(claims[0].Epoch) {
				t.Errorf("placed again at %v, and %v was good", got, claims[0])
			}
			w.mustPlace(second, testGroup(2)) // the seat of the dead is nobody's
			if claims, err = w.registry.Claims(w.ctx); err != nil || len(claims) != 2 {
				t.Errorf("%d claims for two groups, %v", len(claims), err)
			}
			if n := w.allocator.gave(); n > 1 {
				t.Errorf("%d hosts were allocated", n)
			}
		})
	}
}
