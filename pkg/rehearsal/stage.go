// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// Stage is where a rehearsal takes place: a cluster with Dovetail's controller in an account of its own, whose nodes are hollow.
type Stage struct {
	Kube client.Client
	AWS  aws.Config
	// ClusterName in EKS, Role of nodes, and the VPC that the stage has already: whose subnets and groups nobody is to select.
	ClusterName, Role, VPC string
	// Prices of instance types there, in USD an hour; 0 where it is not known.
	Price func(instanceType string) float64
	// PricesFrom says of what date and Region they are, Latency how long EC2 takes.
	PricesFrom, Latency string
}

// theater is a stage during a rehearsal.
type theater struct {
	Stage
	ec2      *ec2.Client
	progress io.Writer
	started  time.Time
	names    mapping
	vpc      string // the cluster's, as the stage has it
	subnets  []string
	// own nodes of the stage, by name.
	own map[string]bool
	// was is the name that the cluster has for a node, by its NodeClaim or instance.
	was map[string]string
	// held ENIs by instance: what a node of the cluster holds besides its first address.
	held    map[string][]string
	holding sync.Mutex // of held and notes, while held is filled
	notes   []string
}

func (t *theater) say(format string, args ...any) {
	fmt.Fprintf(t.progress, "%6.0f s  "+format+"\n", append([]any{time.Since(t.started).Seconds()}, args...)...)
}

func (t *theater) note(format string, args ...any) {
	t.notes = append(t.notes, t.names.back(fmt.Sprintf(format, args...)))
}

// poll until done, every so often, and less often where asking takes long: a question about thousands of pods takes the processors
// that the controllers have.
func poll(ctx context.Context, every time.Duration, done func(context.Context) (bool, error)) error {
	for {
		asked := time.Now()
		if ok, err := done(ctx); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(every, 3*time.Since(asked))):
		}
	}
}

// knowOwn nodes of the stage, before it has others, and keep them: the controller runs there, and a NodeMigration may select them.
func (t *theater) knowOwn(ctx context.Context) error {
	nodes := &corev1.NodeList{}
	if err := t.Kube.List(ctx, nodes); err != nil {
		return err
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		t.own[node.Name] = true
		before := node.DeepCopy()
		node.Annotations = lo.Assign(node.Annotations, map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"})
		if err := t.Kube.Patch(ctx, node, client.MergeFrom(before)); err != nil {
			return err
		}
	}
	return nil
}

// create objects as the stage has them. Those that decide the whole must be accepted; of others it is said that they are missing.
func (t *theater) create(ctx context.Context, objects []client.Object) error {
	if err := t.namespaces(ctx, objects); err != nil {
		return err
	}
	for _, object := range objects {
		mapped, err := t.names.object(object)
		if err != nil {
			return fmt.Errorf("%s: %w", nameOf(object), err)
		}
		err = t.put(ctx, mapped)
		switch {
		case err == nil:
		case mapped.GetNamespace() != "" && (apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err)):
			t.note("%s is not there: %v", nameOf(object), err)
		default:
			return fmt.Errorf("%s: %w", nameOf(object), err)
		}
	}
	return nil
}

// put an object there, over one of the same name.
func (t *theater) put(ctx context.Context, object client.Object) error {
	err := t.Kube.Create(ctx, object)
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	now := object.DeepCopyObject().(client.Object)
	if err := t.Kube.Get(ctx, client.ObjectKeyFromObject(object), now); err != nil {
		return err
	}
	object.SetResourceVersion(now.GetResourceVersion())
	return t.Kube.Update(ctx, object)
}

func (t *theater) namespaces(ctx context.Context, objects []client.Object) error {
	var seen []string
	for _, object := range objects {
		name := object.GetNamespace()
		if name == "" || slices.Contains(seen, name) {
			continue
		}
		seen = append(seen, name)
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := t.Kube.Create(ctx, namespace); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("namespace %s: %w", name, err)
		}
		if err := t.serviceAccount(ctx, name); err != nil {
			return fmt.Errorf("namespace %s: %w", name, err)
		}
	}
	return nil
}

// serviceAccount default of a namespace: no pod is admitted before it is there.
func (t *theater) serviceAccount(ctx context.Context, namespace string) error {
	return poll(ctx, 100*time.Millisecond, func(ctx context.Context) (bool, error) {
		err := t.Kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "default"}, &corev1.ServiceAccount{})
		return err == nil, client.IgnoreNotFound(err)
	})
}

// still lets no NodePool replace a node.
func still(pools []karpv1.NodePool) []client.Object {
	var out []client.Object
	for i := range pools {
		pool := pools[i].DeepCopy()
		pool.Spec.Disruption.Budgets = []karpv1.Budget{{Nodes: "0"}}
		out = append(out, pool)
	}
	return out
}

// release NodePools to their own budgets.
func (t *theater) release(ctx context.Context, pools []karpv1.NodePool) error {
	var errs []error
	for i := range pools {
		pool := &karpv1.NodePool{}
		if err := t.Kube.Get(ctx, client.ObjectKeyFromObject(&pools[i]), pool); err != nil {
			return err
		}
		before := pool.DeepCopy()
		pool.Spec.Disruption = pools[i].Spec.Disruption
		errs = append(errs, t.Kube.Patch(ctx, pool, client.MergeFrom(before)))
	}
	return errors.Join(errs...)
}
