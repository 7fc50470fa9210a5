package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/guildhall-dev/guildhall/internal/pass"
)

// data is the data folder, locked against a second process.
type data struct {
	folder    string
	temporary string // the folder if it goes with the process, or ""
	passKey   string // file with the private key that signs passes
	passKeys  string // file with the public keys that hosts check passes by
	lock      *os.File
}

// openData makes the folder, or a temporary one, and what belongs there from the start. A pass key that is given is
// used in place of a new one: hosts that are started elsewhere have its public half. So are public keys that are given:
// whoever replaces the one file replaces the other.
func openData(folder, passKey, passKeys string) (*data, error) {
	if passKeys != "" && passKey == "" {
		return nil, errors.New("GUILDHALL_PASS_KEYS_FILE is set, but not GUILDHALL_PASS_KEY_FILE: passes would be signed by a key that is not in it")
	}
	d := &data{folder: folder, passKey: passKey, passKeys: passKeys}
	if folder == "" {
		temporary, err := os.MkdirTemp("", "guildhall-")
		if err != nil {
			return nil, fmt.Errorf("temporary data folder: %w", err)
		}
		d.folder, d.temporary = temporary, temporary
	}
	for _, step := range []func() error{d.takeLock, d.makeKey} {
		if err := step(); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	return d, nil
}

func (d *data) takeLock() error {
	if err := os.MkdirAll(filepath.Join(d.folder, "keys"), 0o700); err != nil {
		return fmt.Errorf("data folder %s cannot be used: %w", d.folder, err)
	}
	lock, err := os.OpenFile(filepath.Join(d.folder, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("data folder %s cannot be used: %w", d.folder, err)
	}
	d.lock = lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("data folder %s is in use by another process; give this one its own with --data", d.folder)
	}
	return nil
}

// makeKey makes the key that signs passes, anew at each start, for a pass lives for a minute; or gives hosts the
// public half of the one that was given.
func (d *data) makeKey() error {
	if d.passKeys != "" {
		return nil
	}
	d.passKeys = filepath.Join(d.folder, "keys", "pass.pub.pem")
	if d.passKey != "" {
		key, err := pass.LoadPrivateKey(d.passKey)
		if err != nil {
			return fmt.Errorf("GUILDHALL_PASS_KEY_FILE: %w", err)
		}
		return pass.SavePublicKey(key, d.passKeys)
	}
	key, err := pass.NewKey()
	if err != nil {
		return err
	}
	d.passKey = filepath.Join(d.folder, "keys", "pass.pem")
	if err := pass.SaveKeyPair(key, d.passKey, d.passKeys); err != nil {
		return fmt.Errorf("data folder %s cannot be used: %w", d.folder, err)
	}
	return nil
}

// close unlocks the folder, and removes a temporary one.
func (d *data) close() error {
	var errs []error
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
		d.lock = nil
	}
	if d.temporary != "" {
		errs = append(errs, os.RemoveAll(d.temporary))
	}
	return errors.Join(errs...)
}
