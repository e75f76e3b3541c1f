// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/dovetail-dev/dovetail/pkg/plan"
)

// unread notes what could not be read. Where the cluster did not permit it, the right is its name: a verb and a kind.
func (s *surveyor) unread(what, right string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := plan.Unread{What: what, Why: reasonOf(err), Denied: deniedAction(err)}
	if apierrors.IsForbidden(err) {
		u.Denied = right
	}
	if !slices.Contains(s.facts.Unread, u) {
		s.facts.Unread = append(s.facts.Unread, u)
	}
}

// reasonOf an error. Of a call of AWS it keeps the action and the answer, without the request's id that an SDK puts in.
func reasonOf(err error) string {
	var call *smithy.OperationError
	var api smithy.APIError
	if !errors.As(err, &call) || !errors.As(call, &api) {
		return err.Error()
	}
	brief := fmt.Sprintf("%s answers %s: %s", actionOf(err), api.ErrorCode(), api.ErrorMessage())
	return strings.Replace(err.Error(), call.Error(), brief, 1)
}

// denials are the codes by which AWS's services say that a policy does not allow an action.
var denials = []string{"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}

// deniedAction is the action of AWS that was not permitted, "" where the error is another.
func deniedAction(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) || !slices.Contains(denials, api.ErrorCode()) {
		return ""
	}
	return actionOf(err)
}

// actionOf a failed call, as policies name it: ec2:DescribeVpcs.
func actionOf(err error) string {
	var call *smithy.OperationError
	if !errors.As(err, &call) {
		return ""
	}
	return strings.ToLower(strings.ReplaceAll(call.ServiceID, " ", "")) + ":" + call.OperationName
}

// unreachable tells that nothing else can be read either.
func unreachable(err error) bool {
	var u *url.Error
	return errors.As(err, &u)
}
