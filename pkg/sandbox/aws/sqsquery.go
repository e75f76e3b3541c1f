// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// serveSQSQuery serves SQS by the Query protocol, as AWS still does: the AWS CLI before 2.14 and botocore before 1.31.81,
// which Debian 12 has, know no other. Its requests are the JSON protocol's spelled as a form, so they go the same way.
func (c *Cloud) serveSQSQuery(w http.ResponseWriter, r *http.Request) {
	form, err := readForm(r)
	action := form.Get("Action")
	var out any
	if err == nil {
		if operation, ok := c.jsonOperations()["AmazonSQS."+action]; ok {
			out, err = operation(r, jsonOfForm(form))
		} else {
			err = clientError("InvalidAction", "The sandbox does not simulate the action %s of sqs", action)
		}
	}
	if err != nil {
		e := *asAPIError(err)
		if e.code == "com.amazonaws.sqs#QueueDoesNotExist" {
			e.code = "AWS.SimpleQueueService.NonExistentQueue"
		}
		writeQueryError(w, &e)
		return
	}
	var body bytes.Buffer
	fmt.Fprintf(&body, `<%sResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/">`, action)
	// The outputs hold nothing that XML cannot.
	_ = xml.NewEncoder(&body).EncodeElement(out, xml.StartElement{Name: xml.Name{Local: action + "Result"}})
	fmt.Fprintf(&body, "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>", w.Header().Get(requestIDHeader), action)
	w.Header().Set("Content-Type", "text/xml")
	_, _ = w.Write(body.Bytes()) // the caller is gone: nothing to do
}

// jsonOfForm spells a form of SQS as the JSON protocol does: AttributeName.1=All is {"AttributeNames":["All"]}. An unknown
// parameter stays one, for the operation to refuse.
func jsonOfForm(form url.Values) []byte {
	object := map[string]any{}
	for _, key := range sortedKeys(form) {
		value := form.Get(key)
		name, _, indexed := strings.Cut(key, ".")
		number, err := strconv.Atoi(value)
		switch {
		case key == "Action" || key == "Version":
		case indexed:
			list, _ := object[name+"s"].([]string)
			object[name+"s"] = append(list, value)
		case err == nil && sqsNumbers[key]:
			object[key] = number
		default:
			object[key] = value
		}
	}
	encoded, _ := json.Marshal(object) // strings and numbers always encode
	return encoded
}

var sqsNumbers = map[string]bool{"MaxNumberOfMessages": true, "VisibilityTimeout": true, "WaitTimeSeconds": true}

// MarshalXML writes <Attribute><Name>..</Name><Value>..</Value></Attribute> for each.
func (a messageAttributes) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	for _, name := range sortedKeys(a) {
		if err := e.EncodeElement(struct{ Name, Value string }{name, a[name]}, start); err != nil {
			return err
		}
	}
	return nil
}
