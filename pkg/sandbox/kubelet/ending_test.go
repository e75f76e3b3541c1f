// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/kubelet"
)

func TestAPodEndsAfterItsHooksAndWithinItsGracePeriod(t *testing.T) {
	asked := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	exec := func(command ...string) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: command}}
	}
	for name, test := range map[string]struct {
		hooks []*corev1.LifecycleHandler // a container each
		after time.Duration
	}{
		"no hook":                        {hooks: []*corev1.LifecycleHandler{nil}},
		"a sleep of the kubelet's":       {[]*corev1.LifecycleHandler{{Sleep: &corev1.SleepAction{Seconds: 7}}}, 7 * time.Second},
		"a sleep":                        {[]*corev1.LifecycleHandler{exec("sleep", "8")}, 8 * time.Second},
		"a shell's sleep":                {[]*corev1.LifecycleHandler{exec("/bin/sh", "-c", "sleep 9")}, 9 * time.Second},
		"the longest of the containers'": {[]*corev1.LifecycleHandler{exec("sleep", "8"), nil, exec("sleep", "11")}, 11 * time.Second},
		"longer than the grace period":   {[]*corev1.LifecycleHandler{exec("sleep", "300")}, 30 * time.Second},
		"a command of the image's":       {hooks: []*corev1.LifecycleHandler{exec("/drain", "--wait")}},
		"no number":                      {hooks: []*corev1.LifecycleHandler{exec("sleep", "infinity")}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{}
			pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &metav1.Time{Time: asked.Add(30 * time.Second)}, new(int64(30))
			for _, hook := range test.hooks {
				c := corev1.Container{}
				if hook != nil {
					c.Lifecycle = &corev1.Lifecycle{PreStop: hook}
				}
				pod.Spec.Containers = append(pod.Spec.Containers, c)
			}
			require.Equal(t, asked.Add(test.after), kubelet.EndOf(pod))
		})
	}
}
