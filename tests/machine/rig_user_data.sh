#!/bin/bash
# What the rig promises to user data, in one boot. test_rig.py puts the volume's id in.
set -euxo pipefail
volume=VOLUME_ID

if command -v docker; then exit 1; fi # not there before it is installed
dnf install -y -q docker
systemctl enable --now docker.service

metadata=http://169.254.169.254/latest
[ "$(curl -s -o /dev/null -w '%{http_code}' $metadata/meta-data/instance-id)" = 401 ]
token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' $metadata/api/token)
instance=$(curl -sf -H "X-aws-ec2-metadata-token: $token" $metadata/meta-data/instance-id)
export AWS_DEFAULT_REGION=us-east-1

until aws ec2 attach-volume --volume-id "$volume" --instance-id "$instance" --device /dev/sdf; do
  sleep 5
done
disk=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${volume/-/}
timeout 60 bash -c "until [ -b $disk ]; do sleep 0.2; done"
mkfs.ext4 -q "$disk"
echo "$disk /var/lib/chroma ext4 defaults,nofail 0 2" >> /etc/fstab
systemctl daemon-reload
mkdir -p /var/lib/chroma
mount /var/lib/chroma

docker run --detach --restart=always --publish 8000:8000 --volume /var/lib/chroma:/data \
  ghcr.io/chroma-core/chroma:1.5.9
timeout 120 bash -c 'until curl -sf http://127.0.0.1:8000/api/v2/heartbeat; do sleep 1; done'
aws cloudformation signal-resource --stack-name rig --logical-resource-id Group \
  --unique-id "$instance" --status SUCCESS
