// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// postForm posts a form of the Query protocol to a service.
func (w *world) postForm(service string, form url.Values) (status int, body string) {
	request, err := http.NewRequestWithContext(w.Context(), http.MethodPost, w.server.URL, strings.NewReader(form.Encode()))
	require.NoError(w, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/"+service+"/aws4_request, SignedHeaders=host, Signature=0")
	response, err := http.DefaultClient.Do(request)
	require.NoError(w, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(w, err)
	return response.StatusCode, string(content)
}

func TestAQueueSpeaksTheQueryProtocolToo(t *testing.T) {
	w := newAccount(t, immediate())
	call := func(action string, parameters ...string) string {
		t.Helper()
		form := url.Values{"Action": {action}, "Version": {"2012-11-05"}}
		for i := 0; i < len(parameters); i += 2 {
			form.Set(parameters[i], parameters[i+1])
		}
		_, body := w.postForm("sqs", form)
		return body
	}
	require.Contains(t, call("GetQueueUrl", "QueueName", "q"), "<Code>AWS.SimpleQueueService.NonExistentQueue</Code>")
	require.Contains(t, call("CreateQueue", "QueueName", "q.fifo"), "<Code>InvalidParameterValue</Code>")
	created := call("CreateQueue", "QueueName", "q")
	queue := regexp.MustCompile(`<CreateQueueResult><QueueUrl>(.*)</QueueUrl></CreateQueueResult>`).FindStringSubmatch(created)
	require.NotNil(t, queue, created)
	require.Contains(t, call("SendMessage", "QueueUrl", queue[1], "MessageBody", `{"a":"<1>"}`), "<MD5OfMessageBody>")
	received := call("ReceiveMessage", "QueueUrl", queue[1], "MaxNumberOfMessages", "10", "AttributeName.1", "All")
	require.Contains(t, received, "<Body>{&#34;a&#34;:&#34;&lt;1&gt;&#34;}</Body>")
	require.Contains(t, received, "<Attribute><Name>SentTimestamp</Name><Value>")
	receipt := regexp.MustCompile(`<ReceiptHandle>(.*)</ReceiptHandle>`).FindStringSubmatch(received)
	require.NotNil(t, receipt, received)
	require.Contains(t, call("DeleteMessage", "QueueUrl", queue[1], "ReceiptHandle", receipt[1]), "<RequestId>")
	require.NotContains(t, call("ReceiveMessage", "QueueUrl", queue[1], "VisibilityTimeout", "0"), "<Message>")

	require.Contains(t, call("ReceiveMessage", "QueueUrl", queue[1], "ReceiveRequestAttemptId", "1"), "SerializationException")
	require.Contains(t, call("PurgeQueue", "QueueUrl", queue[1]), "<Code>InvalidAction</Code>")
}

func TestAServiceThatIsNotSimulatedSaysSoInItsOwnProtocol(t *testing.T) {
	status, body := newAccount(t, immediate()).postForm("sns", url.Values{"Action": {"ListTopics"}})
	require.Equal(t, http.StatusBadRequest, status)
	require.Regexp(t, `^<ErrorResponse><Error>.*<Message>The sandbox does not simulate the service .*sns.*</Message></Error>`, body)
}
