// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/url"
	"reflect"
	"strings"
	"time"
)

// request is one EC2 call in progress, under the lock.
type request struct {
	*Cloud
	now    time.Time
	dryRun bool
	who    caller
}

// act is called when a request is found good, before its first effect. It ends a dry run.
func (r *request) act() error {
	if r.dryRun {
		return errDryRun
	}
	return nil
}

// action is an EC2 call that is simulated.
type action struct {
	mutating bool
	// honoured are the parameters that have an effect, without list indexes, each with what is below it. Others are refused:
	// to ignore what a caller asks for would be kinder than EC2 is.
	honoured []string
	decode   func(url.Values) (any, error)
	call     func(*request, any) (any, error)
}

// inert are parameters that are accepted without effect, by the last segments of their path.
var inert = map[string]string{
	"BlockDeviceMapping":              "instances have no disks",
	"CpuOptions":                      "instances have no CPUs of their own",
	"Monitoring":                      "there is no CloudWatch",
	"EnclaveOptions":                  "there are no enclaves",
	"ConnectionTrackingSpecification": "the packet network has its own timeouts",
	"Context":                         "reserved for AWS",
	"IncludeDeprecated":               "no image of the catalogue is deprecated",
}

// serve makes an action of a handler of the SDK's input and output. Honoured parameters are separated by spaces.
func serve[I, O any](mutating bool, honoured string, handler func(*request, *I) (*O, error)) action {
	return action{
		mutating: mutating,
		honoured: strings.Fields(honoured),
		decode: func(form url.Values) (any, error) {
			in := new(I)
			return in, decodeForm(ec2Protocol{}, form, in)
		},
		call: func(r *request, in any) (any, error) {
			out, err := handler(r, in.(*I))
			if err != nil {
				return nil, err
			}
			return out, nil
		},
	}
}

func read[I, O any](honoured string, handler func(*request, *I) (*O, error)) action {
	return serve(false, honoured, handler)
}

func write[I, O any](honoured string, handler func(*request, *I) (*O, error)) action {
	return serve(true, honoured, handler)
}

// refuse returns an error for the first parameter that has no effect in the simulator.
func (a action) refuse(name string, form url.Values) error {
	for _, key := range sortedKeys(form) {
		path := withoutIndexes(key)
		switch path {
		case "Action", "Version", "DryRun", "ClientToken":
			continue
		}
		if !a.honours(path) && !isInert(path) {
			return notSimulated("the parameter %s of %s", key, name)
		}
	}
	return nil
}

func (a action) honours(path string) bool {
	for _, honoured := range a.honoured {
		if path == honoured || strings.HasPrefix(path, honoured+".") {
			return true
		}
	}
	return false
}

func isInert(path string) bool {
	for segment := range strings.SplitSeq(path, ".") {
		if _, ok := inert[segment]; ok {
			return true
		}
	}
	return false
}

func withoutIndexes(key string) string {
	segments := strings.Split(key, ".")
	kept := segments[:0]
	for _, segment := range segments {
		if strings.Trim(segment, "0123456789") != "" {
			kept = append(kept, segment)
		}
	}
	return strings.Join(kept, ".")
}

// callEC2 serves one request, but for its latency.
func (c *Cloud) callEC2(form url.Values, token string) (any, error) {
	name := form.Get("Action")
	a, ok := c.actions[name]
	if !ok {
		return nil, clientError("InvalidAction", "The action %s is not valid for this web service.", name)
	}
	r := &request{Cloud: c, now: time.Now(), dryRun: form.Get("DryRun") == "true"}
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if r.who, err = c.callerOf(token); err != nil {
		return nil, err
	}
	if c.latency.RequestLimit && !c.buckets.allow(name, a.mutating, isUnfiltered(form), countInstances(form), r.now) {
		return nil, errRequestLimit
	}
	out, err := c.once(r, name, a, form)
	if err == nil && a.mutating {
		c.changed()
	}
	return out, err
}

// isUnfiltered tells whether a request has neither filters nor ids nor pagination.
func isUnfiltered(form url.Values) bool {
	for key := range form {
		if key != "Action" && key != "Version" && key != "DryRun" {
			return false
		}
	}
	return true
}

// countInstances is the number of instances that a request of RunInstances or TerminateInstances is about.
func countInstances(form url.Values) int {
	n := 0
	for key := range form {
		if strings.HasPrefix(key, "InstanceId.") {
			n++
		}
	}
	if text := form.Get("MaxCount"); text != "" {
		count := int32(0)
		if err := decodeScalar(reflect.ValueOf(&count).Elem(), text); err == nil {
			n = int(count)
		}
	}
	return n
}

// idempotent is what a client token has brought about.
type idempotent struct {
	parameters string
	output     any
}

// once calls the action, or returns the former output for a client token that has succeeded before.
func (c *Cloud) once(r *request, name string, a action, form url.Values) (any, error) {
	token := form.Get("ClientToken")
	if len(token) > 64 || strings.IndexFunc(token, func(char rune) bool { return char > 126 }) >= 0 {
		return nil, clientError("InvalidParameterValue", "Value (%s) for parameter clientToken is invalid. Up to 64 ASCII characters.", token)
	}
	parameters := url.Values{}
	for key, values := range form {
		if key != "ClientToken" && key != "DryRun" {
			parameters[key] = values
		}
	}
	key := name + "/" + token
	if former, ok := c.tokens[key]; ok && token != "" && !r.dryRun {
		if former.parameters != parameters.Encode() {
			return nil, clientError("IdempotentParameterMismatch",
				"Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
		}
		if err := c.stillThere(former.output); err != nil {
			return nil, err
		}
		return former.output, nil
	}
	in, err := a.decode(form)
	if err != nil {
		return nil, err
	}
	if err := r.permit(name, a.mutating, in); err != nil {
		return nil, err
	}
	if err := a.refuse(name, form); err != nil {
		return nil, err
	}
	if err := checkFilters(name, form); err != nil {
		return nil, err
	}
	if !a.mutating && r.dryRun {
		return nil, errDryRun
	}
	out, err := a.call(r, in)
	if err == nil && token != "" {
		c.tokens[key] = idempotent{parameters: parameters.Encode(), output: out}
	}
	return out, err
}
