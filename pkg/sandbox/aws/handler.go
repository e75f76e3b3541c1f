// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// maxRequest is above the largest launch template that EC2 takes (16 KiB of user data in base64, and tags).
const maxRequest = 1 << 20

// Handler serves every service on one endpoint. It tells them apart as they are addressed: the credential
// scope of the signature for the Query protocol, X-Amz-Target for JSON, the path for EKS.
func (c *Cloud) Handler() http.Handler {
	return c.withRequestID(c.withFaults(func(w http.ResponseWriter, r *http.Request) {
		scope, err := parseScope(r.Header.Get("Authorization"))
		if err != nil {
			writeJSONError(w, err)
			return
		}
		if scope.service != "ec2" {
			sleep(r, c.draw("").time)
		}
		target := r.Header.Get("X-Amz-Target")
		switch {
		case target != "":
			c.serveJSON(w, r, target)
		case scope.service == "ec2":
			c.serveEC2(w, r, scope)
		case scope.service == "iam" || scope.service == "sts":
			c.serveIdentity(w, r, scope.service)
		case scope.service == "sqs":
			c.serveSQSQuery(w, r)
		case scope.service == "eks":
			c.serveEKS(w, r)
		case strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
			writeQueryError(w, clientError("InvalidAction", "The sandbox does not simulate the service %q", scope.service))
		default:
			writeJSONError(w, clientError("UnknownOperationException", "The sandbox does not simulate the service %q", scope.service))
		}
	}))
}

// requestIDHeader is in the replies of every service; those of the Query protocol repeat it in their body.
const requestIDHeader = "x-amzn-RequestId"

func (c *Cloud) withRequestID(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(requestIDHeader, c.requestID())
		next(w, r)
	}
}

// scope is what a signature says about a request. The signature itself is not verified: any key is good.
type scope struct{ region, service string }

var credentialScope = regexp.MustCompile(`Credential=[^/,\s]+/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request`)

func parseScope(authorization string) (scope, error) {
	if authorization == "" {
		return scope{}, statusError(http.StatusForbidden, "MissingAuthenticationToken", "Missing Authentication Token")
	}
	match := credentialScope.FindStringSubmatch(authorization)
	if match == nil {
		return scope{}, statusError(http.StatusForbidden, "IncompleteSignature", "Authorization header requires a credential scope")
	}
	return scope{region: match[1], service: match[2]}, nil
}

// readForm reads the parameters of the Query protocol.
func readForm(r *http.Request) (url.Values, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, clientError("MalformedQueryString", "%v", err)
	}
	for key, values := range r.URL.Query() {
		form[key] = values
	}
	return form, nil
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err != nil {
		return nil, clientError("RequestAborted", "%v", err)
	}
	if len(body) > maxRequest {
		return nil, statusError(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The request is larger than %d bytes", maxRequest)
	}
	return body, nil
}

func (c *Cloud) serveEC2(w http.ResponseWriter, r *http.Request, s scope) {
	form, err := readForm(r)
	if err == nil && s.region != c.region {
		err = statusError(http.StatusUnauthorized, "AuthFailure",
			"Credential should be scoped to a valid region, not '%s'. The sandbox is %s.", s.region, c.region)
	}
	var out any
	if err == nil {
		wait := c.draw(form.Get("Action"))
		isRead := wait.read
		if isRead {
			sleep(r, wait.time) // what is read is as fresh as the reply; an effect may outlive its caller's patience
		}
		out, err = c.callEC2(form, sessionToken(r))
		if !isRead {
			sleep(r, wait.time)
		}
	}
	if err != nil {
		writeEC2Error(w, err)
		return
	}
	var body bytes.Buffer
	action := form.Get("Action")
	fmt.Fprintf(&body, `<%sResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>%s</requestId>`, action, w.Header().Get(requestIDHeader))
	before := body.Len()
	encodeBody(&body, ec2Protocol{}, out)
	if body.Len() == before && reflect.TypeOf(out).Elem().NumField() == emptyOutput {
		body.WriteString("<return>true</return>")
	}
	fmt.Fprintf(&body, "</%sResponse>", action)
	writeEC2(w, http.StatusOK, body.Bytes())
}

func writeEC2Error(w http.ResponseWriter, err error) {
	e := asAPIError(err)
	var body bytes.Buffer
	body.WriteString("<Response><Errors><Error><Code>")
	escape(&body, e.code)
	body.WriteString("</Code><Message>")
	escape(&body, e.message)
	fmt.Fprintf(&body, "</Message></Error></Errors><RequestID>%s</RequestID></Response>", w.Header().Get(requestIDHeader))
	writeEC2(w, e.status, body.Bytes())
}

func writeEC2(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller is gone: nothing to do
}

// emptyOutput is the number of fields of an output structure without members: ResultMetadata and a marker.
const emptyOutput = 2

type latency struct {
	read bool
	time time.Duration
}

// shortestCall is a floor under every latency. The SDK closes a request's body when the reply begins, and then takes the end of
// that body for an error of the connection if the transport has not met it yet (smithy-go, safeWriteToReadCloser.WriteTo):
// a reply that comes at once is lost. AWS's never does.
const shortestCall = 2 * time.Millisecond

// draw returns how long a call of EC2 takes; every other service takes as long as a read.
func (c *Cloud) draw(action string) latency {
	c.mu.Lock()
	defer c.mu.Unlock()
	span, mutating := c.latency.Read, false
	switch a, ok := c.actions[action]; {
	case action == "CreateFleet" || action == "RunInstances":
		span, mutating = c.latency.Launch, true
	case ok && a.mutating:
		span, mutating = c.latency.Write, true
	}
	return latency{read: !mutating, time: max(span.draw(c.random), shortestCall)}
}

func (c *Cloud) requestID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uuid(c.random)
}

func sleep(r *http.Request, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}

func asAPIError(err error) *apiError {
	var e *apiError
	if errors.As(err, &e) {
		return e
	}
	return statusError(http.StatusInternalServerError, "InternalError", "%v", err)
}

func escape(out *bytes.Buffer, text string) {
	_ = xml.EscapeText(out, []byte(text)) // writing to a buffer does not fail
}

// serveJSON serves the services of the JSON protocols; target is "Service.Operation".
func (c *Cloud) serveJSON(w http.ResponseWriter, r *http.Request, target string) {
	operation, ok := c.jsonOperations()[target]
	if !ok {
		writeJSONError(w, clientError("UnknownOperationException", "The sandbox does not simulate %s", target))
		return
	}
	body, err := readBody(r)
	if err == nil {
		err = c.authorizeJSON(sessionToken(r), target, body)
	}
	var out any
	if err == nil {
		out, err = operation(r, body)
	}
	if err != nil {
		writeJSONError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

func (c *Cloud) jsonOperations() map[string]func(*http.Request, []byte) (any, error) {
	return map[string]func(*http.Request, []byte) (any, error){
		"AmazonSSM.GetParameter":                 jsonOperation(c.getParameter),
		"ServiceQuotasV20190624.GetServiceQuota": jsonOperation(c.getServiceQuota),
		"AWSPriceListService.GetProducts":        jsonOperation(c.getProducts),
		"AmazonSQS.CreateQueue":                  jsonOperation(c.createQueue),
		"AmazonSQS.GetQueueUrl":                  jsonOperation(c.getQueueURL),
		"AmazonSQS.SendMessage":                  jsonOperation(c.sendMessage),
		"AmazonSQS.ReceiveMessage":               jsonOperation(c.receiveMessage),
		"AmazonSQS.DeleteMessage":                jsonOperation(c.deleteMessage),
	}
}

// jsonOperation decodes the input strictly: a member that the handler's structure does not have is refused.
func jsonOperation[I, O any](handler func(*http.Request, I) (O, error)) func(*http.Request, []byte) (any, error) {
	return func(r *http.Request, body []byte) (any, error) {
		var in I
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&in); err != nil {
			return nil, clientError("SerializationException", "The sandbox does not simulate this input: %v", err)
		}
		return handler(r, in)
	}
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the caller is gone: nothing to do
}

// writeQueryError answers in the form of every service of the Query protocol but EC2.
func writeQueryError(w http.ResponseWriter, err error) {
	e := asAPIError(err)
	var body bytes.Buffer
	body.WriteString("<ErrorResponse><Error><Type>Sender</Type><Code>")
	escape(&body, e.code)
	body.WriteString("</Code><Message>")
	escape(&body, e.message)
	fmt.Fprintf(&body, "</Message></Error><RequestId>%s</RequestId></ErrorResponse>", w.Header().Get(requestIDHeader))
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(e.status)
	_, _ = w.Write(body.Bytes()) // the caller is gone: nothing to do
}

func writeJSONError(w http.ResponseWriter, err error) {
	e := asAPIError(err)
	code := e.code[strings.LastIndexByte(e.code, '#')+1:]
	w.Header().Set("X-Amzn-ErrorType", code)
	writeJSON(w, e.status, map[string]string{"__type": e.code, "message": e.message})
}
