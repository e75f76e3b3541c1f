// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/cli"
)

func TestAnEventsTimeIsTheLastThatItsRecorderGave(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 1, 1, 12, minute, 0, 0, time.UTC) }
	made := metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(at(1))}
	for name, test := range map[string]struct {
		event corev1.Event
		want  time.Time
	}{
		"of core/v1":              {corev1.Event{ObjectMeta: made, FirstTimestamp: metav1.NewTime(at(2)), LastTimestamp: metav1.NewTime(at(3))}, at(3)},
		"of events.k8s.io":        {corev1.Event{ObjectMeta: made, EventTime: metav1.NewMicroTime(at(2))}, at(2)},
		"of events.k8s.io, again": {corev1.Event{ObjectMeta: made, EventTime: metav1.NewMicroTime(at(2)), Series: &corev1.EventSeries{Count: 2, LastObservedTime: metav1.NewMicroTime(at(4))}}, at(4)},
		"without a time":          {corev1.Event{ObjectMeta: made}, at(1)},
	} {
		t.Run(name, func(t *testing.T) { require.True(t, test.want.Equal(cli.EventTime(&test.event))) })
	}
}
