package main

import (
	"errors"
	"fmt"
	"net/url"

	"connectrpc.com/connect"
)

// serverFlag says where to call.
type serverFlag struct {
	Server serverURL `default:"http://127.0.0.1:7777" placeholder:"URL" help:"The server's address (default ${default})."`
}

// serverURL is the address of a server.
type serverURL string

// UnmarshalText takes an http or https URL.
func (u *serverURL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		return fmt.Errorf("%q is not a server: want a URL such as http://127.0.0.1:7777", text)
	}
	*u = serverURL(text)
	return nil
}

// explain says in a user's terms why a call failed. Unimplemented means that the server is not the one for it.
func (u serverURL) explain(err error, unimplemented string) error {
	var refused *connect.Error
	switch {
	case connect.CodeOf(err) == connect.CodeUnimplemented:
		return fmt.Errorf("%s %s", u, unimplemented)
	case connect.CodeOf(err) == connect.CodeUnavailable:
		return fmt.Errorf("nobody answers at %s: start one with `guildhall up`, or give its address with --server: %w", u, err)
	case errors.As(err, &refused):
		return errors.New(refused.Message())
	}
	return err
}
