// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/stretchr/testify/assert"
)

var (
	quotedCode   = regexp.MustCompile("`([^`]+)`")
	answeredCode = regexp.MustCompile(`<(?:Code|errorCode)>([^<]+)</`) // errorCode: of an item of a fleet's reply
)

// declaredCodes are the error codes of each call in the table of fidelity; those of every call are under "".
var declaredCodes = sync.OnceValue(func() map[string][]string {
	text, err := os.ReadFile("README.md")
	if err != nil {
		panic(err)
	}
	codes := map[string][]string{}
	for line := range strings.SplitSeq(string(text), "\n") {
		action, cell := "", line
		if columns := strings.Split(line, " | "); len(columns) == 7 {
			action, cell = strings.TrimPrefix(columns[0], "| "), columns[5]
		} else if !strings.HasPrefix(line, "Every call may answer:") {
			continue
		}
		for _, match := range quotedCode.FindAllStringSubmatch(cell, -1) {
			codes[action] = append(codes[action], match[1])
		}
	}
	return codes
})

// declaredOnly fails the test when EC2 answers a code that the call does not declare. So every test looks after the table.
func (w *world) declaredOnly(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if scope, err := parseScope(r.Header.Get("Authorization")); err != nil || scope.service != "ec2" {
			handler.ServeHTTP(out, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the caller is gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, _ := url.ParseQuery(string(body))
		action := form.Get("Action")
		copied := &copiedReply{ResponseWriter: out, fleet: action == "CreateFleet"}
		handler.ServeHTTP(copied, r)
		if w.cloud.hasErrorFault() {
			return // it may raise anything
		}
		declared := declaredCodes()
		for _, match := range answeredCode.FindAllStringSubmatch(copied.body.String(), -1) {
			known := slices.Contains(declared[""], match[1]) || slices.Contains(declared[action], match[1])
			assert.True(w, known, "%s answers %s, which the table of fidelity does not have", action, match[1])
		}
	})
}

func (c *Cloud) hasErrorFault() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.faults, func(f *activeFault) bool { return f.Error != nil })
}

// copiedReply keeps the errors: a reply of another status, or one of a fleet.
type copiedReply struct {
	http.ResponseWriter
	fleet, failed bool
	body          bytes.Buffer
}

func (r *copiedReply) WriteHeader(status int) {
	r.failed = status >= http.StatusBadRequest
	r.ResponseWriter.WriteHeader(status)
}

func (r *copiedReply) Write(p []byte) (int, error) {
	if r.failed || r.fleet {
		r.body.Write(p)
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap lets faults close the connection.
func (r *copiedReply) Unwrap() http.ResponseWriter { return r.ResponseWriter }
