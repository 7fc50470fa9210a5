package director

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"time"
)

// expiry gives when the certificates of a file are no good any more: own ones with the first that expires, those whom we
// trust with the last, for the old one stays beside the new one while they are replaced. It is read each time it is asked
// for, from the file that the next connection reads; the zero time if it has no certificate that can be read.
func expiry(file string, isOwn bool) (at time.Time) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return time.Time{}
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return at
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue // a key beside it; what is damaged is found by whoever needs it
		}
		if at.IsZero() || cert.NotAfter.Before(at) == isOwn {
			at = cert.NotAfter
		}
	}
}
