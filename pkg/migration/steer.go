// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// Pause begins no further node and evicts no further pod.
func Pause(ctx context.Context, c client.Client, name string) (*v1alpha1.NodeMigration, error) {
	return steer(ctx, c, name, func(m *v1alpha1.NodeMigration) error {
		switch {
		case m.Status.Phase == v1alpha1.MigrationComplete:
			return fmt.Errorf("NodeMigration %s is complete: there is nothing to pause", m.Name)
		case m.Spec.Stop:
			return fmt.Errorf("NodeMigration %s is stopped: there is nothing to pause", m.Name)
		}
		m.Spec.Paused = true
		return nil
	})
}

// Resume takes Pause back.
func Resume(ctx context.Context, c client.Client, name string) (*v1alpha1.NodeMigration, error) {
	return steer(ctx, c, name, func(m *v1alpha1.NodeMigration) error {
		switch {
		case m.Spec.Stop:
			return fmt.Errorf("NodeMigration %s is stopped, and its nodes take pods again: delete it, and start another one", m.Name)
		case !m.Spec.Paused && m.Status.Phase == v1alpha1.MigrationPaused:
			return fmt.Errorf("nobody has paused NodeMigration %s: it waits by itself, and goes on by itself when the cause is gone; kubectl dovetail migrate status %s says what it is", m.Name, m.Name)
		case !m.Spec.Paused:
			return fmt.Errorf("NodeMigration %s is not paused", m.Name)
		}
		m.Spec.Paused = false
		return nil
	})
}

// Stop undoes: every node that the migration has cordoned, and whose instance it has not ended, takes pods again.
func Stop(ctx context.Context, c client.Client, name string) (*v1alpha1.NodeMigration, error) {
	return steer(ctx, c, name, func(m *v1alpha1.NodeMigration) error {
		m.Spec.Stop = true
		return nil
	})
}

// steer the NodeMigration of the name, or the only one.
func steer(ctx context.Context, c client.Client, name string, change func(*v1alpha1.NodeMigration) error) (*v1alpha1.NodeMigration, error) {
	all := &v1alpha1.NodeMigrationList{}
	if err := c.List(ctx, all); err != nil {
		return nil, cli.Explain(err)
	}
	m, err := find(all.Items, name)
	if err != nil {
		return nil, err
	}
	before := m.DeepCopy()
	if err := change(m); err != nil {
		return nil, err
	}
	err = c.Patch(ctx, m, client.MergeFrom(before)) // of this field only: the user's others stay as they were written
	named(m)
	return m, cli.Explain(err)
}
