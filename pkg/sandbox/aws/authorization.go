// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// caller is who signed a request: an instance's role, or else the account's one user, who may do everything.
type caller struct {
	arn, userID string
	role        *role // nil: the user
}

func sessionToken(r *http.Request) string { return r.Header.Get("X-Amz-Security-Token") }

// callerOf finds the caller by the token of an instance's credentials.
func (c *Cloud) callerOf(token string) (caller, error) {
	id, ok := strings.CutPrefix(token, roleTokenPrefix)
	if !ok {
		return caller{arn: "arn:aws:iam::" + c.account + ":user/sandbox", userID: "AIDA0000000000SANDBOX"}, nil
	}
	i := c.instances.get(id)
	if i == nil || i.profile == nil || i.profile.role == nil {
		return caller{}, statusError(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid")
	}
	ro := i.profile.role
	return caller{arn: "arn:aws:sts::" + c.account + ":assumed-role/" + ro.name + "/" + id, userID: ro.id + ":" + id, role: ro}, nil
}

// refused returns the first of what is asked that the caller may not.
func (c caller) refused(asks []ask) (ask, bool) {
	if c.role == nil {
		return ask{}, false
	}
	var policies []*policy
	for _, p := range c.role.policies {
		policies = append(policies, p)
	}
	for _, a := range asks {
		if !allowed(policies, a) {
			return a, true
		}
	}
	return ask{}, false
}

// sentence is how AWS names a refusal.
func (c caller) sentence(a ask) string {
	on := " on resource: " + a.resource
	if a.resource == "*" {
		on = ""
	}
	return "User: " + c.arn + " is not authorized to perform: " + a.action + on + " because no identity-based policy allows the " + a.action + " action"
}

// authorizeService is for services but EC2, whose requests are about one resource.
func (c *Cloud) authorizeService(token, action, resource string) error {
	return c.authorizeAll(token, "AccessDeniedException", ask{action: action, resource: resource, keys: c.globalKeys()})
}

func (c *Cloud) authorizeAll(token, code string, asks ...ask) error {
	who, err := c.callerOf(token)
	if err != nil {
		return err
	}
	if a, refused := who.refused(asks); refused {
		return statusError(http.StatusForbidden, code, "%s", who.sentence(a))
	}
	return nil
}

func (c *Cloud) globalKeys() map[string][]string {
	return map[string][]string{"aws:RequestedRegion": {c.region}}
}

// authorizeJSON is for the services of the JSON protocols; target is "Service.Operation".
func (c *Cloud) authorizeJSON(token, target string, body []byte) error {
	var in struct{ Name, QueueName, QueueURL string }
	_ = json.Unmarshal(body, &in) // the operation itself refuses what is no JSON
	service, operation, _ := strings.Cut(target, ".")
	c.mu.Lock()
	defer c.mu.Unlock()
	switch service {
	case "AmazonSSM":
		account := c.account
		if strings.HasPrefix(in.Name, "/aws/") {
			account = "" // AWS's public parameters
		}
		return c.authorizeService(token, "ssm:"+operation, "arn:aws:ssm:"+c.region+":"+account+":parameter"+in.Name)
	case "AmazonSQS":
		name := in.QueueName
		if name == "" {
			name = in.QueueURL[strings.LastIndexByte(in.QueueURL, '/')+1:]
		}
		return c.authorizeService(token, "sqs:"+operation, c.arn("sqs", name))
	case "AWSPriceListService":
		return c.authorizeService(token, "pricing:"+operation, "*")
	}
	return c.authorizeService(token, "servicequotas:"+operation, "*")
}

// authorizeIdentity is for IAM; everybody may ask STS who he is.
func (c *Cloud) authorizeIdentity(token, service, action string, form url.Values) error {
	if service != "iam" {
		return nil
	}
	keys, tags := c.globalKeys(), map[string]string{}
	for key, values := range form {
		if number, ok := strings.CutPrefix(key, "Tags.member."); ok && strings.HasSuffix(number, ".Key") {
			tags[values[0]] = form.Get("Tags.member." + strings.TrimSuffix(number, ".Key") + ".Value")
		}
	}
	requestTags(keys, tags)
	resource := "*"
	switch name := form.Get("InstanceProfileName"); {
	case name != "":
		resource = "arn:aws:iam::" + c.account + ":instance-profile" + pathOr(optional(form, "Path")) + name
		if p := c.profiles[name]; p != nil {
			resource = p.arn
			resourceTags(keys, p.tags)
		}
	case form.Get("RoleName") != "":
		resource = "arn:aws:iam::" + c.account + ":role/" + form.Get("RoleName")
		if ro := c.roles[form.Get("RoleName")]; ro != nil {
			resource = ro.arn
		}
	}
	asks := []ask{{action: "iam:" + action, resource: resource, keys: keys}}
	if action == "CreateInstanceProfile" && len(tags) > 0 {
		asks = append(asks, ask{action: "iam:TagInstanceProfile", resource: resource, keys: keys})
	}
	if action == "AddRoleToInstanceProfile" {
		if ro := c.roles[form.Get("RoleName")]; ro != nil {
			asks = append(asks, c.passRole(ro))
		}
	}
	return c.authorizeAll(token, "AccessDenied", asks...)
}

func optional(form url.Values, key string) *string {
	if !form.Has(key) {
		return nil
	}
	return awssdk.String(form.Get(key))
}

func (c *Cloud) passRole(ro *role) ask {
	keys := c.globalKeys()
	keys["iam:PassedToService"] = []string{"ec2.amazonaws.com"}
	return ask{action: "iam:PassRole", resource: ro.arn, keys: keys}
}

func requestTags(keys map[string][]string, tags map[string]string) {
	for _, key := range sortedKeys(tags) {
		keys["aws:RequestTag/"+key] = []string{tags[key]}
		keys["aws:TagKeys"] = append(keys["aws:TagKeys"], key)
	}
}

func resourceTags(keys map[string][]string, tags map[string]string) {
	for key, value := range tags {
		keys["aws:ResourceTag/"+key], keys["ec2:ResourceTag/"+key] = []string{value}, []string{value}
	}
}

// permit an EC2 request, before anything of it is looked at. What EC2 knows no resources for, and every write whose resources
// are not listed here, is asked for on "*".
func (r *request) permit(name string, mutating bool, in any) error {
	if r.who.role == nil {
		return nil
	}
	a := &asking{r: r, action: "ec2:" + name, asked: map[string]bool{}}
	if !mutating || !a.resources(in) {
		a.add(a.action, "*", nil)
	}
	refused, no := r.who.refused(a.asks)
	if !no {
		return nil
	}
	return statusError(http.StatusForbidden, "UnauthorizedOperation",
		"You are not authorized to perform this operation. %s. Encoded authorization failure message: sandbox", r.who.sentence(refused))
}

// asking collects what a request needs.
type asking struct {
	r      *request
	action string
	asks   []ask
	asked  map[string]bool // existing resources, by action and id
}

func (a *asking) add(action, resource string, fill func(keys map[string][]string)) {
	keys := a.r.globalKeys()
	if fill != nil {
		fill(keys)
	}
	a.asks = append(a.asks, ask{action: action, resource: resource, keys: keys})
}

// existing resources by their ids, with their tags, each once: a fleet names a subnet for every instance type. Of one that there is not EC2 says so, whatever the caller may do.
func (a *asking) existing(action string, ids ...string) {
	for _, id := range ids {
		if a.asked[action+" "+id] {
			continue
		}
		a.asked[action+" "+id] = true
		if strings.HasPrefix(id, "ami-") {
			a.add(action, "arn:aws:ec2:"+a.r.region+"::image/"+id, nil)
			continue
		}
		for _, t := range a.r.taggables() {
			if t.prefix != idPrefix(id) {
				continue
			}
			if tags := t.tags(id); tags != nil {
				a.add(action, a.r.arn("ec2", string(t.resource)+"/"+id), func(keys map[string][]string) { resourceTags(keys, tags) })
			}
		}
	}
}

// made resources have no id yet, but the tags that specifications give them.
func (a *asking) made(action string, specs []ec2types.TagSpecification, kinds ...ec2types.ResourceType) {
	for _, kind := range kinds {
		tags := specified(specs, kind)
		a.add(action, a.r.arn("ec2", string(kind)+"/*"), func(keys map[string][]string) { requestTags(keys, tags) })
		a.tagged(action, specs, kind)
	}
}

// tagged resources need the right to tag what the action makes, when the request tags it.
func (a *asking) tagged(action string, specs []ec2types.TagSpecification, kind ec2types.ResourceType) {
	tags := specified(specs, kind)
	if len(tags) == 0 {
		return
	}
	a.add("ec2:CreateTags", a.r.arn("ec2", string(kind)+"/*"), func(keys map[string][]string) {
		requestTags(keys, tags)
		keys["ec2:CreateAction"] = []string{strings.TrimPrefix(action, "ec2:")}
	})
}

func specified(specs []ec2types.TagSpecification, kind ec2types.ResourceType) map[string]string {
	tags := map[string]string{}
	for _, spec := range specs {
		if spec.ResourceType == kind {
			maps.Copy(tags, plainTags(spec.Tags))
		}
	}
	return tags
}

func plainTags(tags []ec2types.Tag) map[string]string {
	m := map[string]string{}
	for _, tag := range tags {
		m[awssdk.ToString(tag.Key)] = awssdk.ToString(tag.Value)
	}
	return m
}

// resources of a request, by the service authorization reference of EC2; false: not listed.
func (a *asking) resources(in any) bool {
	return a.ofInterfaces(in) || a.ofInstances(in) || a.ofVPCs(in)
}

func (a *asking) ofInterfaces(in any) bool {
	id := awssdk.ToString
	switch in := in.(type) {
	case *ec2.CreateNetworkInterfaceInput:
		a.made(a.action, in.TagSpecifications, ec2types.ResourceTypeNetworkInterface)
		a.existing(a.action, append([]string{id(in.SubnetId)}, in.Groups...)...)
	case *ec2.AttachNetworkInterfaceInput:
		a.existing(a.action, id(in.NetworkInterfaceId), id(in.InstanceId))
	case *ec2.DetachNetworkInterfaceInput:
		a.existing(a.action, a.attachment(in.AttachmentId)...)
	case *ec2.DeleteNetworkInterfaceInput:
		a.existing(a.action, id(in.NetworkInterfaceId))
	case *ec2.AssignPrivateIpAddressesInput:
		a.existing(a.action, id(in.NetworkInterfaceId))
	case *ec2.UnassignPrivateIpAddressesInput:
		a.existing(a.action, id(in.NetworkInterfaceId))
	case *ec2.ModifyNetworkInterfaceAttributeInput:
		a.existing(a.action, append([]string{id(in.NetworkInterfaceId)}, in.Groups...)...)
		if in.Attachment != nil {
			a.existing(a.action, a.attachment(in.Attachment.AttachmentId)...)
		}
	default:
		return false
	}
	return true
}

func (a *asking) ofInstances(in any) bool {
	switch in := in.(type) {
	case *ec2.CreateTagsInput:
		a.tag(in)
	case *ec2.TerminateInstancesInput:
		a.existing(a.action, in.InstanceIds...)
	case *ec2.CreateLaunchTemplateInput:
		a.made(a.action, in.TagSpecifications, ec2types.ResourceTypeLaunchTemplate)
	case *ec2.DeleteLaunchTemplateInput:
		if t, err := a.r.template(in.LaunchTemplateId, in.LaunchTemplateName); err == nil {
			a.existing(a.action, t.id)
		}
	case *ec2.RunInstancesInput:
		a.run(in)
	case *ec2.CreateFleetInput:
		a.fleet(in)
	default:
		return false
	}
	return true
}

func (a *asking) ofVPCs(in any) bool {
	id := awssdk.ToString
	switch in := in.(type) {
	case *ec2.AssociateVpcCidrBlockInput:
		a.existing(a.action, id(in.VpcId))
	case *ec2.DisassociateVpcCidrBlockInput:
		a.existing(a.action, a.vpcOf(id(in.AssociationId)))
	case *ec2.CreateSubnetInput:
		a.made(a.action, in.TagSpecifications, ec2types.ResourceTypeSubnet)
		a.existing(a.action, id(in.VpcId))
	case *ec2.DeleteSubnetInput:
		a.existing(a.action, id(in.SubnetId))
	case *ec2.CreateSubnetCidrReservationInput:
		a.existing(a.action, id(in.SubnetId))
		a.tagged(a.action, in.TagSpecifications, ec2types.ResourceTypeSubnetCidrReservation)
	case *ec2.AssociateRouteTableInput:
		a.existing(a.action, id(in.RouteTableId), id(in.SubnetId))
	default:
		return false
	}
	return true
}

// tag asks for each resource, with its tags and those to come.
func (a *asking) tag(in *ec2.CreateTagsInput) {
	a.existing(a.action, in.Resources...)
	for i := range a.asks {
		requestTags(a.asks[i].keys, plainTags(in.Tags))
	}
}

// attachment is the interface and the instance of one.
func (a *asking) attachment(id *string) (ids []string) {
	for _, n := range a.r.interfaces.all() {
		if at := n.attachment; at != nil && at.id == awssdk.ToString(id) {
			ids = append(ids, n.id)
			if at.instance != nil {
				ids = append(ids, at.instance.id)
			}
		}
	}
	return ids
}

func (a *asking) vpcOf(association string) string {
	for _, v := range a.r.vpcs.all() {
		for _, block := range v.blocks {
			if block.id == association {
				return v.id
			}
		}
	}
	return ""
}

func (a *asking) run(in *ec2.RunInstancesInput) {
	var specs []ec2types.TagSpecification
	if in.LaunchTemplate != nil {
		if t, err := a.r.template(in.LaunchTemplate.LaunchTemplateId, in.LaunchTemplate.LaunchTemplateName); err == nil {
			a.existing(a.action, t.id)
			if v, err := t.version(awssdk.ToString(in.LaunchTemplate.Version)); err == nil {
				specs = templateTags(v)
			}
		}
	}
	l, err := a.r.runLaunch(in)
	if err != nil {
		return // the action itself says what is wrong
	}
	a.launched("ec2:RunInstances", l, append(specs, in.TagSpecifications...))
}

// fleet needs what the fleet itself does, and what it needs to run instances.
func (a *asking) fleet(in *ec2.CreateFleetInput) {
	a.made(a.action, in.TagSpecifications, ec2types.ResourceTypeFleet, ec2types.ResourceTypeInstance, ec2types.ResourceTypeVolume)
	for _, config := range in.LaunchTemplateConfigs {
		if config.LaunchTemplateSpecification == nil {
			continue
		}
		t, err := a.r.template(config.LaunchTemplateSpecification.LaunchTemplateId, config.LaunchTemplateSpecification.LaunchTemplateName)
		if err != nil {
			continue
		}
		v, err := t.version(awssdk.ToString(config.LaunchTemplateSpecification.Version))
		if err != nil {
			continue
		}
		a.existing(a.action, t.id)
		a.existing("ec2:RunInstances", t.id)
		specs := append(templateTags(v), in.TagSpecifications...)
		l, err := t.launch(v)
		if err != nil {
			continue
		}
		for _, o := range config.Overrides {
			a.existing(a.action, awssdk.ToString(o.SubnetId), awssdk.ToString(o.ImageId))
			a.existing("ec2:RunInstances", awssdk.ToString(o.SubnetId), awssdk.ToString(o.ImageId))
		}
		a.launched("ec2:RunInstances", l, specs)
	}
}

// launched asks for what each instance of a launch is made of.
func (a *asking) launched(action string, l launch, specs []ec2types.TagSpecification) {
	a.made(action, specs, ec2types.ResourceTypeInstance, ec2types.ResourceTypeNetworkInterface, ec2types.ResourceTypeVolume)
	if l.spot {
		a.made(action, specs, ec2types.ResourceTypeSpotInstancesRequest)
	}
	a.existing(action, l.imageID, l.subnetID, l.placement.groupID)
	a.existing(action, l.groups...)
	for _, li := range l.interfaces {
		a.existing(action, append([]string{li.subnetID}, li.groups...)...)
	}
	for _, p := range a.r.profiles {
		if p.role != nil && (p.name == l.profileName || p.arn == l.profileARN) {
			a.asks = append(a.asks, a.r.passRole(p.role))
		}
	}
}

func templateTags(v *templateVersion) (specs []ec2types.TagSpecification) {
	for _, spec := range v.data.TagSpecifications {
		specs = append(specs, ec2types.TagSpecification{ResourceType: spec.ResourceType, Tags: spec.Tags})
	}
	return specs
}
