// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"crypto/md5" // of message bodies, which SQS's clients compare
	"encoding/hex"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// queue is thin: messages in order, each hidden for a while after it was received.
type queue struct {
	messages []*message
	arrived  chan struct{} // closed and replaced when a message arrives
}

type message struct {
	id, body, receipt string
	sent, visibleAt   time.Time
}

// send adds a message. The caller holds the Cloud's lock.
func (q *queue) send(m *message) {
	q.messages = append(q.messages, m)
	close(q.arrived)
	q.arrived = make(chan struct{})
}

// CreateQueue makes an SQS queue, if there is none of that name.
func (c *Cloud) CreateQueue(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queues[name] == nil {
		c.queues[name] = &queue{arrived: make(chan struct{})}
	}
}

// queueByURL finds a queue by the last element of its URL's path. The caller holds the lock.
func (c *Cloud) queueByURL(url string) (*queue, error) {
	if q := c.queues[path.Base(url)]; q != nil {
		return q, nil
	}
	return nil, clientError("com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist.")
}

type createQueueInput struct{ QueueName string }

var queueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

// createQueue makes a standard queue with the default attributes.
func (c *Cloud) createQueue(r *http.Request, in createQueueInput) (getQueueURLOutput, error) {
	if !queueName.MatchString(in.QueueName) {
		return getQueueURLOutput{}, clientError("InvalidParameterValue",
			"Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
	}
	c.CreateQueue(in.QueueName)
	return c.getQueueURL(r, getQueueURLInput(in))
}

type getQueueURLInput struct{ QueueName string }

type getQueueURLOutput struct {
	QueueURL string `json:"QueueUrl" xml:"QueueUrl"`
}

func (c *Cloud) getQueueURL(r *http.Request, in getQueueURLInput) (getQueueURLOutput, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.queueByURL(in.QueueName); err != nil {
		return getQueueURLOutput{}, err
	}
	return getQueueURLOutput{QueueURL: "http://" + r.Host + "/" + c.account + "/" + in.QueueName}, nil
}

type sendMessageInput struct {
	QueueURL    string `json:"QueueUrl"`
	MessageBody string
}

type sendMessageOutput struct {
	MessageID        string `json:"MessageId" xml:"MessageId"`
	MD5OfMessageBody string
}

func (c *Cloud) sendMessage(_ *http.Request, in sendMessageInput) (sendMessageOutput, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q, err := c.queueByURL(in.QueueURL)
	if err != nil {
		return sendMessageOutput{}, err
	}
	m := &message{id: uuid(c.random), body: in.MessageBody, sent: time.Now()}
	q.send(m)
	return sendMessageOutput{MessageID: m.id, MD5OfMessageBody: digest(m.body)}, nil
}

func digest(body string) string {
	sum := md5.Sum([]byte(body))
	return hex.EncodeToString(sum[:])
}

type receiveMessageInput struct {
	QueueURL            string `json:"QueueUrl"`
	MaxNumberOfMessages int
	VisibilityTimeout   *int // seconds; 30 is a queue's default
	WaitTimeSeconds     int
	// Asked for by name; SentTimestamp is all there is.
	AttributeNames, MessageAttributeNames, MessageSystemAttributeNames []string
}

type receiveMessageOutput struct {
	Messages []receivedMessage `json:",omitempty" xml:"Message"`
}

type receivedMessage struct {
	MessageID     string `json:"MessageId" xml:"MessageId"`
	ReceiptHandle string
	Body          string
	MD5OfBody     string
	Attributes    messageAttributes `json:",omitempty" xml:"Attribute"`
}

type messageAttributes map[string]string

// wantsSent checks the input, and tells whether the time of sending is asked for. Messages have no attributes of their senders, so
// asking for these changes nothing.
func (in receiveMessageInput) wantsSent() (bool, error) {
	switch {
	case in.MaxNumberOfMessages < 0 || in.MaxNumberOfMessages > 10:
		return false, invalidValue(strconv.Itoa(in.MaxNumberOfMessages), "MaxNumberOfMessages")
	case in.WaitTimeSeconds < 0 || in.WaitTimeSeconds > 20:
		return false, invalidValue(strconv.Itoa(in.WaitTimeSeconds), "WaitTimeSeconds")
	case in.VisibilityTimeout != nil && (*in.VisibilityTimeout < 0 || *in.VisibilityTimeout > 43200):
		return false, invalidValue(strconv.Itoa(*in.VisibilityTimeout), "VisibilityTimeout")
	}
	wanted := false
	for _, name := range append(slices.Clone(in.AttributeNames), in.MessageSystemAttributeNames...) {
		switch name {
		case "All", "SentTimestamp":
			wanted = true
		default:
			return false, notSimulated("the attribute %s of messages", name)
		}
	}
	return wanted, nil
}

// receiveMessage polls as long as asked for, until the first message.
func (c *Cloud) receiveMessage(r *http.Request, in receiveMessageInput) (receiveMessageOutput, error) {
	withSent, err := in.wantsSent()
	if err != nil {
		return receiveMessageOutput{}, err
	}
	if in.MaxNumberOfMessages == 0 {
		in.MaxNumberOfMessages = 1
	}
	hidden := 30 * time.Second
	if in.VisibilityTimeout != nil {
		hidden = time.Duration(*in.VisibilityTimeout) * time.Second
	}
	deadline := time.NewTimer(time.Duration(in.WaitTimeSeconds) * time.Second)
	defer deadline.Stop()
	for {
		received, arrived, next, err := c.take(in.QueueURL, in.MaxNumberOfMessages, hidden)
		if !withSent {
			for i := range received {
				received[i].Attributes = nil
			}
		}
		if err != nil || len(received) > 0 || in.WaitTimeSeconds == 0 {
			return receiveMessageOutput{Messages: received}, err
		}
		visible := time.NewTimer(next)
		select {
		case <-arrived:
		case <-visible.C:
		case <-deadline.C:
			visible.Stop()
			return receiveMessageOutput{}, nil
		case <-r.Context().Done():
			visible.Stop()
			return receiveMessageOutput{}, r.Context().Err()
		}
		visible.Stop()
	}
}

// take receives what is visible; without any it tells when to look again.
func (c *Cloud) take(url string, limit int, hidden time.Duration) (received []receivedMessage, arrived <-chan struct{}, next time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q, err := c.queueByURL(url)
	if err != nil {
		return nil, nil, 0, err
	}
	now := time.Now()
	next = time.Hour
	for _, m := range q.messages {
		if now.Before(m.visibleAt) {
			next = min(next, m.visibleAt.Sub(now))
			continue
		}
		if len(received) == limit {
			break
		}
		m.visibleAt, m.receipt = now.Add(hidden), uuid(c.random)
		received = append(received, receivedMessage{
			MessageID: m.id, ReceiptHandle: m.receipt, Body: m.body, MD5OfBody: digest(m.body),
			Attributes: messageAttributes{"SentTimestamp": strconv.FormatInt(m.sent.UnixMilli(), 10)},
		})
	}
	return received, q.arrived, next, nil
}

type deleteMessageInput struct {
	QueueURL      string `json:"QueueUrl"`
	ReceiptHandle string
}

func (c *Cloud) deleteMessage(_ *http.Request, in deleteMessageInput) (struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q, err := c.queueByURL(in.QueueURL)
	if err != nil {
		return struct{}{}, err
	}
	for i, m := range q.messages {
		if m.receipt == in.ReceiptHandle && m.receipt != "" {
			q.messages = append(q.messages[:i:i], q.messages[i+1:]...)
			return struct{}{}, nil
		}
	}
	return struct{}{}, clientError("ReceiptHandleIsInvalid", "The input receipt handle is invalid.")
}
