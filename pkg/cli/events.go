// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// EventFresh is the age up to which an event that is repeated while its cause lasts says how things are now.
const EventFresh = 5 * time.Minute

// EventTime is when an event was last seen. Recorders of events.k8s.io, such as kube-scheduler's, leave the older fields empty.
func EventTime(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil && !e.Series.LastObservedTime.IsZero():
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}
