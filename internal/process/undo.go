package process

import "slices"

// Undo closes what a constructor has opened so far, the last one first, unless the constructor succeeds:
//
//	var undo process.Undo
//	defer undo.Run()
//	undo.Add(listener.Close)
//	…
//	undo.Cancel()
type Undo struct{ closers []func() error }

// Add adds a step to undo.
func (u *Undo) Add(closer func() error) { u.closers = append(u.closers, closer) }

// Cancel forgets all steps: the constructor has succeeded.
func (u *Undo) Cancel() { u.closers = nil }

// Run closes. The constructor is failing already, with an error of more use than those of closing.
func (u *Undo) Run() {
	for _, closer := range slices.Backward(u.closers) {
		_ = closer()
	}
}
