// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"
)

const (
	// SocketName of the agent in the state directory.
	SocketName = "agent.sock"
	// GrowPath asks the agent for more addresses; it answers when there are some, or why not.
	GrowPath = "/grow"

	// growTimeout bounds the wait for more addresses. Creating and attaching an ENI can take ten seconds; the runtime gives
	// a plugin more than this.
	growTimeout = 30 * time.Second
	// answerLimit in bytes: a reason is a sentence.
	answerLimit = 8192
)

// grow waits until the agent has more addresses, or says why not. The request is written by hand, because net/http would
// be more than a third of a program that starts for each pod; with HTTP/1.0 the answer comes in one piece and ends with the
// connection.
func grow(stateDir string) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: filepath.Join(stateDir, SocketName)})
	if err != nil {
		return fmt.Errorf("the node agent does not answer: %w", err)
	}
	defer conn.Close() //nolint:errcheck // the answer is whole or not by then
	if err := conn.SetDeadline(time.Now().Add(growTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "POST "+GrowPath+" HTTP/1.0\r\nHost: agent\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return fmt.Errorf("the node agent does not answer: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(conn, answerLimit))
	if err != nil {
		return fmt.Errorf("the node agent does not answer: %w", err)
	}
	return understand(answer)
}

// understand returns the agent's reason why there are no more addresses, nil when there are some.
func understand(answer []byte) error {
	head, body, whole := bytes.Cut(answer, []byte("\r\n\r\n"))
	status := bytes.Fields(head)
	switch {
	case len(answer) == 0:
		return errors.New("the node agent ended before it answered")
	case !whole || len(status) < 2 || !bytes.HasPrefix(status[0], []byte("HTTP/")):
		return fmt.Errorf("the node agent answered what is no HTTP: %.80q", answer)
	case string(status[1]) == "200":
		return nil
	default:
		return errors.New(string(bytes.TrimSpace(body)))
	}
}
