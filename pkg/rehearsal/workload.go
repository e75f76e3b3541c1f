// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"strings"

	"github.com/samber/lo"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"

	"github.com/dovetail-dev/dovetail/pkg/vpccni"
)

const (
	// pause does nothing; on hollow nodes no image is run at all.
	pause = "registry.k8s.io/pause:3.10"
	// ownName is the label of Dovetail's own pods, which the stage has already.
	ownName = "dovetail"
)

// workload reduced to what decides where its pods can be. It returns nil for what has no pods of its own.
func (c *Cluster) workload(object client.Object) client.Object {
	if object.GetLabels()["app.kubernetes.io/name"] == ownName {
		return nil
	}
	meta := metav1.ObjectMeta{Namespace: lo.CoalesceOrEmpty(object.GetNamespace(), metav1.NamespaceDefault), Name: object.GetName()}
	owner := metav1.GetControllerOf(object)
	switch o := object.(type) {
	case *appsv1.Deployment:
		return &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
			Replicas: o.Spec.Replicas, Selector: o.Spec.Selector, MinReadySeconds: o.Spec.MinReadySeconds, Template: c.template(object, o.Spec.Template),
		}}
	case *appsv1.StatefulSet:
		if len(o.Spec.VolumeClaimTemplates) > 0 {
			c.note("%s: without its volumes, and the zones that these lie in", nameOf(object))
		}
		return &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{
			Replicas: o.Spec.Replicas, Selector: o.Spec.Selector, MinReadySeconds: o.Spec.MinReadySeconds, ServiceName: o.Spec.ServiceName,
			PodManagementPolicy: o.Spec.PodManagementPolicy, Template: c.template(object, o.Spec.Template),
		}}
	case *appsv1.DaemonSet:
		return &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: o.Spec.Selector, MinReadySeconds: o.Spec.MinReadySeconds, Template: c.template(object, o.Spec.Template)}}
	case *appsv1.ReplicaSet:
		if owner != nil && owner.Kind == "Deployment" || ptr.Deref(o.Spec.Replicas, 1) == 0 {
			return nil
		}
		return &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{
			Replicas: o.Spec.Replicas, Selector: o.Spec.Selector, MinReadySeconds: o.Spec.MinReadySeconds, Template: c.template(object, o.Spec.Template),
		}}
	case *batchv1.Job:
		return c.job(meta, o)
	case *corev1.Pod:
		return c.barePod(meta, owner, o)
	}
	return nil
}

// podSpec of a workload.
func podSpec(workload client.Object) *corev1.PodSpec {
	switch o := workload.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template.Spec
	case *appsv1.StatefulSet:
		return &o.Spec.Template.Spec
	case *appsv1.DaemonSet:
		return &o.Spec.Template.Spec
	case *appsv1.ReplicaSet:
		return &o.Spec.Template.Spec
	case *batchv1.Job:
		return &o.Spec.Template.Spec
	case *corev1.Pod:
		return &o.Spec
	}
	return &corev1.PodSpec{}
}

// job that runs now, for as long as the rehearsal lasts.
func (c *Cluster) job(meta metav1.ObjectMeta, o *batchv1.Job) client.Object {
	ended := lo.ContainsBy(o.Status.Conditions, func(condition batchv1.JobCondition) bool {
		return condition.Status == corev1.ConditionTrue && (condition.Type == batchv1.JobComplete || condition.Type == batchv1.JobFailed)
	})
	if ended || ptr.Deref(o.Spec.Suspend, false) {
		return nil
	}
	template := c.template(o, o.Spec.Template)
	for _, key := range []string{"controller-uid", "job-name", batchv1.ControllerUidLabel, batchv1.JobNameLabel} { // the controller sets its own
		delete(template.Labels, key)
	}
	return &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{
		Parallelism: o.Spec.Parallelism, Completions: o.Spec.Completions, CompletionMode: o.Spec.CompletionMode, BackoffLimit: o.Spec.BackoffLimit, Template: template,
	}}
}

// makers of pods that Add takes itself.
var makers = map[string]bool{"ReplicaSet": true, "StatefulSet": true, "DaemonSet": true, "Job": true, "Node": true}

// barePod is one that no controller here would make again.
func (c *Cluster) barePod(meta metav1.ObjectMeta, owner *metav1.OwnerReference, o *corev1.Pod) client.Object {
	if podutils.IsTerminal(o) || owner != nil && makers[owner.Kind] {
		return nil
	}
	if owner != nil {
		c.note("pods of a %s are as pods of nobody: evicted ones do not come back", owner.Kind)
	}
	template := c.template(o, corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec})
	meta.Labels, meta.Annotations = template.Labels, template.Annotations
	return &corev1.Pod{ObjectMeta: meta, Spec: template.Spec}
}

// template of pods: their constraints, and one container that asks for what all of them ask for.
func (c *Cluster) template(of client.Object, t corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	s := t.Spec.DeepCopy()
	spec := corev1.PodSpec{
		NodeSelector: s.NodeSelector, Affinity: s.Affinity, Tolerations: s.Tolerations, TopologySpreadConstraints: s.TopologySpreadConstraints,
		PriorityClassName: s.PriorityClassName, PreemptionPolicy: s.PreemptionPolicy, HostNetwork: s.HostNetwork, RestartPolicy: s.RestartPolicy,
		TerminationGracePeriodSeconds: s.TerminationGracePeriodSeconds, SchedulingGates: s.SchedulingGates,
		Containers: []corev1.Container{{Name: "pause", Image: pause, Resources: corev1.ResourceRequirements{Requests: c.requests(of, s)}}},
	}
	for _, container := range s.Containers {
		for _, port := range container.Ports {
			if port.HostPort != 0 {
				spec.Containers[0].Ports = append(spec.Containers[0].Ports, corev1.ContainerPort{HostPort: port.HostPort, ContainerPort: port.ContainerPort, Protocol: port.Protocol, HostIP: port.HostIP})
			}
		}
	}
	for i := range spec.Containers[0].Ports { // no two of one pod may be the same
		if spec.HostNetwork {
			spec.Containers[0].Ports[i].ContainerPort = spec.Containers[0].Ports[i].HostPort
		}
	}
	if _, daemonSet := of.(*appsv1.DaemonSet); daemonSet && of.GetNamespace() == vpccni.Namespace && of.GetName() == vpccni.DaemonSet {
		spec.Containers[0].Name, spec.Containers[0].Env = vpccni.Container, settings(s)
	}
	if lo.ContainsBy(s.Volumes, func(v corev1.Volume) bool { return v.PersistentVolumeClaim != nil || v.Ephemeral != nil }) {
		c.note("%s: without its volumes, and the zones that these lie in", nameOf(of))
	}
	if len(s.ResourceClaims) > 0 {
		c.note("%s: without its resource claims", nameOf(of))
	}
	if s.SchedulerName != "" && s.SchedulerName != corev1.DefaultSchedulerName {
		c.note("%s: the default scheduler places its pods, not %s", nameOf(of), s.SchedulerName)
	}
	annotations := lo.PickBy(t.Annotations, func(key, _ string) bool {
		return strings.HasPrefix(key, "karpenter.sh/") || key == "controller.kubernetes.io/pod-deletion-cost"
	})
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: lo.Assign(t.Labels), Annotations: annotations}, Spec: spec}
}

// requests of all containers together, as the scheduler counts them, of what hollow nodes have.
func (c *Cluster) requests(of client.Object, spec *corev1.PodSpec) corev1.ResourceList {
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers { // what is limited only is asked for as well: the API server's default
			containers[i].Resources.Requests = lo.Assign(containers[i].Resources.Limits, containers[i].Resources.Requests)
		}
	}
	all := resourcehelper.PodRequests(&corev1.Pod{Spec: *spec}, resourcehelper.PodResourcesOptions{})
	return lo.PickBy(all, func(name corev1.ResourceName, _ resource.Quantity) bool {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			return true
		}
		c.note("%s: without the %s that it asks for, which nodes do not have here", nameOf(of), name)
		return false
	})
}

// settings of aws-node that the controller compares with a PodNetwork: those that are written out. None of them is secret.
func settings(spec *corev1.PodSpec) []corev1.EnvVar {
	var kept []corev1.EnvVar
	for _, container := range spec.Containers {
		if container.Name != vpccni.Container {
			continue
		}
		for _, variable := range container.Env {
			setting := lo.ContainsBy([]string{"AWS_VPC_", "ENABLE_", "DISABLE_", "WARM_", "MINIMUM_", "ENI_CONFIG_", "IP_COOLDOWN_"}, func(prefix string) bool { return strings.HasPrefix(variable.Name, prefix) })
			if setting && variable.ValueFrom == nil {
				kept = append(kept, variable)
			}
		}
	}
	return kept
}
