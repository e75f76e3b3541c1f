// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Mount of a container: a folder of the instance at a path in the container.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

func (k *Kubelet) podDir(pod *corev1.Pod) string {
	return filepath.Join(k.opts.RootDir, "pods", string(pod.UID))
}

// mountVolumes prepares the pod's volumes and returns where each is on the instance.
func (k *Kubelet) mountVolumes(ctx context.Context, pod *corev1.Pod) (map[string]string, error) {
	sources := map[string]string{}
	for _, volume := range pod.Spec.Volumes {
		dir := filepath.Join(k.podDir(pod), volume.Name)
		switch {
		case volume.HostPath != nil:
			dir = volume.HostPath.Path
			if t := volume.HostPath.Type; t != nil && *t == corev1.HostPathDirectoryOrCreate {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return nil, err
				}
			}
		case volume.EmptyDir != nil:
			if err := os.MkdirAll(dir, 0o777); err != nil {
				return nil, err
			}
		case volume.Projected != nil:
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, err
			}
			if err := k.project(ctx, pod, dir, volume.Projected.Sources); err != nil {
				return nil, fmt.Errorf("volume %s: %w", volume.Name, err)
			}
		default:
			return nil, fmt.Errorf("volume %s: a volume of this kind is not simulated", volume.Name)
		}
		sources[volume.Name] = dir
	}
	return sources, nil
}

func (k *Kubelet) unmountVolumes(pod *corev1.Pod) {
	if err := os.RemoveAll(k.podDir(pod)); err != nil {
		k.opts.Log.Warn("removing a pod's volumes", "pod", pod.Namespace+"/"+pod.Name, "error", err)
	}
}

// project writes the files of a projected volume: what every pod's service account needs.
func (k *Kubelet) project(ctx context.Context, pod *corev1.Pod, dir string, sources []corev1.VolumeProjection) error {
	for _, source := range sources {
		switch {
		case source.ServiceAccountToken != nil:
			if err := k.projectToken(ctx, pod, filepath.Join(dir, source.ServiceAccountToken.Path), source.ServiceAccountToken); err != nil {
				return err
			}
		case source.ConfigMap != nil:
			configMap, err := k.client.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, source.ConfigMap.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, item := range source.ConfigMap.Items {
				if err := os.WriteFile(filepath.Join(dir, item.Path), []byte(configMap.Data[item.Key]), 0o644); err != nil {
					return err
				}
			}
		case source.DownwardAPI != nil:
			for _, item := range source.DownwardAPI.Items {
				if item.FieldRef == nil || item.FieldRef.FieldPath != "metadata.namespace" {
					return fmt.Errorf("downward API file %s is not simulated", item.Path)
				}
				if err := os.WriteFile(filepath.Join(dir, item.Path), []byte(pod.Namespace), 0o644); err != nil {
					return err
				}
			}
		default:
			return fmt.Errorf("a projection of this kind is not simulated")
		}
	}
	return nil
}

// projectToken asks for a token bound to the pod, and for a new one when four fifths of its time have passed.
func (k *Kubelet) projectToken(ctx context.Context, pod *corev1.Pod, file string, source *corev1.ServiceAccountTokenProjection) error {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: source.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if source.Audience != "" {
		request.Spec.Audiences = []string{source.Audience}
	}
	token, err := k.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("service account token: %w", err)
	}
	if err := os.WriteFile(file, []byte(token.Status.Token), 0o600); err != nil {
		return err
	}
	life := time.Until(token.Status.ExpirationTimestamp.Time)
	renewal := time.AfterFunc(life*4/5, func() {
		if err := k.projectToken(ctx, pod, file, source); err != nil {
			k.opts.Log.Warn("renewing a service account token", "pod", pod.Namespace+"/"+pod.Name, "error", err)
		}
	})
	context.AfterFunc(ctx, func() { renewal.Stop() })
	return nil
}

// mounts of the container, from the pod's volumes.
func (c *container) mounts() []Mount {
	var mounts []Mount
	for _, m := range c.spec.VolumeMounts {
		mounts = append(mounts, Mount{Source: filepath.Join(c.volumes[m.Name], m.SubPath), Target: m.MountPath, ReadOnly: m.ReadOnly})
	}
	return mounts
}
