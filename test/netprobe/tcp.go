// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

// replyTimeout bounds one accepted connection, so that a peer which vanished does not hold the listener.
const replyTimeout = 5 * time.Second

// listen prints the peer's address of each connection, and replies it.
func listen(ctx context.Context, _ settings, addr string) error {
	ctx, cancel := untilInputEnds(ctx)
	defer cancel()
	return serveTo(ctx, os.Stdout, addr)
}

// serve replies the peer's address to each connection, until it is told to end.
func serve(ctx context.Context, _ settings, addr string) error { return serveTo(ctx, io.Discard, addr) }

func serveTo(ctx context.Context, out io.Writer, addr string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	fmt.Fprintf(out, "listening %s\n", listener.Addr())
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go reply(conn, out)
	}
}

func reply(conn net.Conn, out io.Writer) {
	defer func() { _ = conn.Close() }()
	peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return
	}
	fmt.Fprintln(out, peer.Addr().Unmap())
	_ = conn.SetDeadline(time.Now().Add(replyTimeout))
	_, _ = fmt.Fprintln(conn, peer.Addr().Unmap())
}

// dial prints what the listener replies.
func dial(ctx context.Context, set settings, addr string) error {
	answer, err := ask(ctx, set.timeout, addr)
	if err != nil {
		return err
	}
	fmt.Println(answer)
	return nil
}

// ask connects and returns the reply, which must not be empty.
func ask(ctx context.Context, timeout time.Duration, addr string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 1024))
	if err != nil {
		return "", fmt.Errorf("connected, but no reply: %w", err)
	}
	if len(answer) == 0 {
		return "", errors.New("connected, but the reply is empty")
	}
	return strings.TrimSpace(string(answer)), nil
}

// get prints the body of a 200 answer.
func get(ctx context.Context, set settings, url string) error {
	transport := &http.Transport{DisableKeepAlives: true}
	if set.ca != "" {
		pem, err := base64.StdEncoding.DecodeString(set.ca)
		if err != nil {
			return fmt.Errorf("-ca: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return errors.New("-ca: no certificate in it")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport, Timeout: set.timeout}).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, response.Status, strings.TrimSpace(string(body)))
	}
	fmt.Println(strings.TrimSpace(string(body)))
	return nil
}
