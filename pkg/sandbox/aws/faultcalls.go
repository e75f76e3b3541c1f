// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// perCall is what the faults of calls have in common: they strike single calls, and leave nothing behind.
type perCall struct{}

func (perCall) repeats() bool            { return true }
func (perCall) lasts() bool              { return true }
func (perCall) end(*Cloud, *activeFault) {}

// LatencyFault makes calls take longer, on top of the profile. A write has had its effect before the wait.
type LatencyFault struct {
	perCall

	Action string `json:"action,omitempty"` // see ErrorFault; default: every call of every service
	Add    Span   `json:"add"`
}

// ThrottleFault gives actions a smaller request bucket than AWS does: RequestLimitExceeded when it is empty.
type ThrottleFault struct {
	perCall

	Action   string  `json:"action"` // see ErrorFault; all that match share the bucket
	Capacity float64 `json:"capacity"`
	Refill   float64 `json:"refill"` // tokens a second
}

// ErrorFault makes calls answer an error.
type ErrorFault struct {
	perCall

	// Action is a call of EC2 (CreateFleet), one of another service (ssm:GetParameter), or a pattern (Describe*, iam:*, *).
	Action string `json:"action"`
	Code   string `json:"code"`
	// Message and Status (HTTP) have defaults for the codes that are well known.
	Message string `json:"message,omitempty"`
	Status  int    `json:"status,omitempty"`
	// Rate is the share of the calls that fail, 0 to 1; default: all.
	Rate float64 `json:"rate,omitempty"`
	// AfterEffect lets the call do its work before it answers the error.
	AfterEffect bool `json:"afterEffect,omitempty"`
}

// LostReplyFault lets calls do their work, and closes the connection in the place of an answer.
type LostReplyFault struct {
	perCall

	Action string  `json:"action"` // see ErrorFault
	Rate   float64 `json:"rate,omitempty"`
}

func (*LatencyFault) kind() string   { return "latency" }
func (*ThrottleFault) kind() string  { return "throttle" }
func (*ErrorFault) kind() string     { return "error" }
func (*LostReplyFault) kind() string { return "lostReply" }

func (l *LatencyFault) describe() string {
	return fmt.Sprintf("%s takes %s longer", orAll(l.Action), l.Add)
}

func (t *ThrottleFault) describe() string {
	return fmt.Sprintf("%s has a bucket of %g requests, refilled by %g a second", t.Action, t.Capacity, t.Refill)
}

func (e *ErrorFault) describe() string {
	text := fmt.Sprintf("%s answers %s", e.Action, e.Code)
	if e.AfterEffect {
		text += " after its effect"
	}
	return text + ofCalls(e.Rate)
}

func (l *LostReplyFault) describe() string {
	return fmt.Sprintf("%s has its effect, and no reply", l.Action) + ofCalls(l.Rate)
}

func orAll(action string) string {
	if action == "" {
		return "*"
	}
	return action
}

func ofCalls(rate float64) string {
	if rate == 0 || rate == 1 {
		return ""
	}
	return fmt.Sprintf(", %g %% of the calls", rate*100)
}

func (l *LatencyFault) begin(c *Cloud, _ *activeFault) error {
	if l.Add.Max <= 0 {
		return faultError("latency needs add, as \"2s\" or \"1s-3s\"")
	}
	return c.checkAction(orAll(l.Action))
}

func (t *ThrottleFault) begin(c *Cloud, f *activeFault) error {
	if t.Capacity < 0 || t.Refill < 0 {
		return faultError("throttle: capacity and refill must not be negative")
	}
	f.bucket = bucket{capacity: t.Capacity, refill: t.Refill}
	return c.checkAction(t.Action)
}

func (e *ErrorFault) begin(c *Cloud, _ *activeFault) error {
	if e.Code == "" {
		return faultError("error needs a code, as RequestLimitExceeded")
	}
	if err := checkRate(e.Rate); err != nil {
		return err
	}
	if e.Status != 0 && (e.Status < 400 || e.Status > 599) {
		return faultError("error: status %d is none of HTTP's for an error", e.Status)
	}
	if e.Action == "CreateFleet" && slices.Contains(poolCodes, e.Code) {
		return faultError("a fleet answers %s for a pool, beside what it launches: use a fault of capacity", e.Code)
	}
	if e.Message == "" && knownErrors[e.Code].message == "" {
		return faultError("error: the text of %s is not known here: give a message", e.Code)
	}
	return c.checkAction(e.Action)
}

// answer is the error that the fault makes a call answer.
func (e *ErrorFault) answer() *apiError {
	answer := knownErrors[e.Code]
	answer.code = e.Code
	override(&answer.status, e.Status)
	if answer.status == 0 {
		answer.status = http.StatusBadRequest
	}
	override(&answer.message, e.Message)
	return &answer
}

func (l *LostReplyFault) begin(c *Cloud, _ *activeFault) error {
	if err := checkRate(l.Rate); err != nil {
		return err
	}
	return c.checkAction(l.Action)
}

func checkRate(rate float64) error {
	if rate < 0 || rate > 1 {
		return faultError("rate is %g: it is a share of calls, from 0 to 1", rate)
	}
	return nil
}

// knownErrors are EC2's words for what any call may answer (EC2 error codes, "Common errors" and "Server errors").
var knownErrors = map[string]apiError{
	"RequestLimitExceeded":  *errRequestLimit,
	"InternalError":         {message: "An internal error has occurred", status: http.StatusInternalServerError},
	"InternalFailure":       {message: "The request processing has failed because of an unknown error, exception, or failure.", status: http.StatusInternalServerError},
	"ServiceUnavailable":    {message: "The request has failed due to a temporary failure of the server.", status: http.StatusServiceUnavailable},
	"Unavailable":           {message: "The server is overloaded and can't handle the request.", status: http.StatusServiceUnavailable},
	"UnauthorizedOperation": {message: "You are not authorized to perform this operation.", status: http.StatusForbidden},
	"AccessDeniedException": {message: "User is not authorized to perform this action.", status: http.StatusForbidden},
	"AuthFailure":           {message: "AWS was not able to validate the provided access credentials", status: http.StatusUnauthorized},
	"Blocked":               {message: "Your account is currently blocked.", status: http.StatusBadRequest},
	"OptInRequired":         {message: "You are not subscribed to this service.", status: http.StatusUnauthorized},
	"Throttling":            {message: "Rate exceeded", status: http.StatusBadRequest},
	"ThrottlingException":   {message: "Rate exceeded", status: http.StatusBadRequest},

	"PrivateIpAddressLimitExceeded": {message: "Number of private addresses will exceed limit."},
	"NetworkInterfaceLimitExceeded": {message: "You have reached the limit on the number of network interfaces that you can create."},
	errSubnetAddresses.code:         *errSubnetAddresses,
	errSubnetFragmented.code:        *errSubnetFragmented,
}

// otherServices are the services besides EC2 whose calls can fail.
var otherServices = []string{"iam", "sts", "ssm", "eks", "sqs", "pricing", "servicequotas"}

// checkAction refuses what matches no call.
func (c *Cloud) checkAction(pattern string) error {
	if pattern == "" {
		return faultError("an action is missing: a call of EC2 (CreateFleet), of another service (ssm:GetParameter), or a pattern (Describe*, iam:*, *)")
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return faultError("action %q: %v", pattern, err)
	}
	service, action, ok := strings.Cut(pattern, ":")
	if !ok {
		service, action = "ec2", pattern
	}
	if service != "ec2" {
		if !slices.ContainsFunc(append([]string{"ec2"}, otherServices...), func(name string) bool {
			matched, _ := path.Match(service, name)
			return matched
		}) {
			return faultError("action %q: the sandbox does not simulate the service %s, only ec2, %s", pattern, service, strings.Join(otherServices, ", "))
		}
		return nil
	}
	for name := range c.actions {
		if matched, _ := path.Match(action, name); matched {
			return nil
		}
	}
	return faultError("action %q matches no call of EC2 that is simulated", pattern)
}

// isAbout tells whether a pattern of a fault is about a call.
func isAbout(pattern, service, action string) bool {
	if pattern == "" || pattern == "*" {
		return true
	}
	wantService, wantAction, ok := strings.Cut(pattern, ":")
	if !ok {
		wantService, wantAction = "ec2", pattern
	}
	a, _ := path.Match(wantService, service)
	b, _ := path.Match(wantAction, action)
	return a && b
}

// interference is what the faults do to one call.
type interference struct {
	delay  time.Duration
	before *apiError // in the place of the call
	after  *apiError // in the place of its success
	cut    bool
}

// interfere draws what happens to a call. Errors are used up in the order in which the faults were added, one a call.
func (c *Cloud) interfere(service, action string) interference {
	c.mu.Lock()
	defer c.mu.Unlock()
	var i interference
	c.active(func(f *activeFault) bool {
		failed := i.before != nil || i.after != nil || i.cut
		switch {
		case f.Latency != nil && isAbout(f.Latency.Action, service, action):
			i.delay += f.Latency.Add.draw(f.random)
		case failed:
			return true
		case f.Throttle != nil && isAbout(f.Throttle.Action, service, action) && !f.bucket.take(1, time.Now()):
			i.before = throttled(service)
		case f.Error != nil && isAbout(f.Error.Action, service, action) && f.hits(f.Error.Rate):
			if f.Error.AfterEffect {
				i.after = f.Error.answer()
			} else {
				i.before = f.Error.answer()
			}
		case f.LostReply != nil && isAbout(f.LostReply.Action, service, action) && f.hits(f.LostReply.Rate):
			i.cut = true
		default:
			return true
		}
		c.strike(f)
		return true
	})
	return i
}

// hits draws whether a fault with this rate strikes. Without a rate it always does.
func (f *activeFault) hits(rate float64) bool {
	return rate == 0 || f.random.Float64() < rate
}

// throttled is how a service says that there were too many requests.
func throttled(service string) *apiError {
	code := "ThrottlingException"
	switch service {
	case "ec2":
		return errRequestLimit
	case "iam", "sts":
		code = "Throttling"
	}
	e := knownErrors[code]
	e.code = code
	return &e
}

// withFaults lets faults interfere with the calls of every service.
func (c *Cloud) withFaults(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, err := parseScope(r.Header.Get("Authorization"))
		if err != nil || !c.anyFaultOfCalls() {
			next(w, r)
			return
		}
		action, err := actionOf(r)
		if err != nil {
			writeFailure(w, r, s.service, err)
			return
		}
		i := c.interfere(s.service, action)
		wait := c.draw(action)
		if i.before != nil {
			sleep(r, wait.time+i.delay)
			writeFailure(w, r, s.service, i.before)
			return
		}
		if wait.read {
			sleep(r, i.delay)
		}
		reply := &heldReply{header: w.Header().Clone(), status: http.StatusOK}
		next(reply, r)
		if !wait.read {
			sleep(r, i.delay)
		}
		switch {
		case i.cut:
			panic(http.ErrAbortHandler) // the server closes the connection and says nothing
		case i.after != nil && reply.status < 400:
			writeFailure(w, r, s.service, i.after)
		default:
			reply.sendTo(w)
		}
	}
}

func (c *Cloud) anyFaultOfCalls() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := false
	c.active(func(f *activeFault) bool {
		found = f.Latency != nil || f.Throttle != nil || f.Error != nil || f.LostReply != nil
		return !found
	})
	return found
}

// actionOf finds out which call a request is, and leaves its body as it was.
func actionOf(r *http.Request) (string, error) {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return target[strings.LastIndexByte(target, '.')+1:], nil
	}
	if call := eksCallOf(r); call.action != "" {
		return call.action, nil
	}
	body, err := readBody(r)
	if err != nil {
		return "", err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", nil //nolint:nilerr // the service says what is wrong with it
	}
	if action := form.Get("Action"); action != "" {
		return action, nil
	}
	return r.URL.Query().Get("Action"), nil
}

// writeFailure answers an error in the protocol that the request is in.
func writeFailure(w http.ResponseWriter, r *http.Request, service string, err error) {
	switch {
	case service == "ec2":
		writeEC2Error(w, err)
	case r.Header.Get("X-Amz-Target") != "" || service == "eks":
		writeJSONError(w, err)
	default:
		writeQueryError(w, err)
	}
}

// heldReply is an answer that has not been sent yet.
type heldReply struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *heldReply) Header() http.Header { return h.header }

func (h *heldReply) WriteHeader(status int) { h.status = status }

func (h *heldReply) Write(b []byte) (int, error) { return h.body.Write(b) }

func (h *heldReply) sendTo(w http.ResponseWriter) {
	for name, values := range h.header {
		w.Header()[name] = values
	}
	w.WriteHeader(h.status)
	_, _ = w.Write(h.body.Bytes()) // the caller is gone: nothing to do
}
